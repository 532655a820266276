"""Callbacks for adversarial training and its measurement."""

from keras_advdef.callbacks.perturbation_schedule import PerturbationSchedule
from keras_advdef.callbacks.robust_accuracy import RobustAccuracy

__all__ = ["PerturbationSchedule", "RobustAccuracy"]
