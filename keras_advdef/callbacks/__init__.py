"""Callbacks for adversarial training and its measurement."""

from keras_advdef.callbacks.catastrophic_overfitting_guard import (
    CatastrophicOverfittingGuard,
)
from keras_advdef.callbacks.epoch_shuffle import EpochShuffle
from keras_advdef.callbacks.kl_annealing import KLAnnealing
from keras_advdef.callbacks.perturbation_schedule import PerturbationSchedule
from keras_advdef.callbacks.robust_accuracy import RobustAccuracy
from keras_advdef.callbacks.sample_grid import SampleGrid
from keras_advdef.callbacks.singular_values import SingularValues
from keras_advdef.callbacks.swap_averaged_weights import SwapAveragedWeights

__all__ = [
    "CatastrophicOverfittingGuard",
    "EpochShuffle",
    "KLAnnealing",
    "PerturbationSchedule",
    "RobustAccuracy",
    "SampleGrid",
    "SingularValues",
    "SwapAveragedWeights",
]
