"""Values of variables, taken out of a model that trains and put back."""

from collections.abc import Sequence

import keras
import numpy as np


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Returns copies of the values of variables.

    Args:
        variables: The variables.
    """
    return [np.array(keras.ops.convert_to_numpy(each)) for each in variables]


def assign_values(
    model: keras.Model,
    variables: Sequence[keras.Variable],
    values: Sequence[np.ndarray],
) -> None:
    """Puts values back, on every replica.

    Args:
        model: The model, for its strategy.
        variables: The variables.
        values: A value for each.
    """
    with model.distribute_strategy.scope():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
