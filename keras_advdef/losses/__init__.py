"""Losses on labels and logits, for attacks and for training."""

from keras_advdef.losses.adaptive_diversity import AdaptiveDiversity
from keras_advdef.losses.difference_of_logits_ratio import DifferenceOfLogitsRatio
from keras_advdef.losses.margin import Margin

__all__ = ["AdaptiveDiversity", "DifferenceOfLogitsRatio", "Margin"]
