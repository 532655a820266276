"""Constraints that are applied to weights after each optimizer step."""

from keras_advdef.constraints.check_weight_decay import check_weight_decay
from keras_advdef.constraints.parseval import Parseval
from keras_advdef.constraints.probability_simplex import ProbabilitySimplex

__all__ = ["Parseval", "ProbabilitySimplex", "check_weight_decay"]
