"""Constraints: what weights are put through after each step of the optimizer."""

from keras_advdef.constraints.check_weight_decay import check_weight_decay
from keras_advdef.constraints.parseval import Parseval
from keras_advdef.constraints.probability_simplex import ProbabilitySimplex

__all__ = ["Parseval", "ProbabilitySimplex", "check_weight_decay"]
