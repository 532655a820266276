"""What a training step minimises, and the penalties that add to it."""

from keras_advdef.objectives.adaptive_diversity_promoting import (
    AdaptiveDiversityPromoting,
)
from keras_advdef.objectives.adversarial_cross_entropy import AdversarialCrossEntropy
from keras_advdef.objectives.consistency import Consistency
from keras_advdef.objectives.cross_entropy import CrossEntropy
from keras_advdef.objectives.cross_lipschitz import CrossLipschitz
from keras_advdef.objectives.deep_defense import DeepDefense
from keras_advdef.objectives.interval_bounds import IntervalBounds
from keras_advdef.objectives.logit_pairing import LogitPairing
from keras_advdef.objectives.mart import MART
from keras_advdef.objectives.objective import Objective
from keras_advdef.objectives.penalty import Penalty
from keras_advdef.objectives.trades import TRADES

__all__ = [
    "MART",
    "TRADES",
    "AdaptiveDiversityPromoting",
    "AdversarialCrossEntropy",
    "Consistency",
    "CrossEntropy",
    "CrossLipschitz",
    "DeepDefense",
    "IntervalBounds",
    "LogitPairing",
    "Objective",
    "Penalty",
]
