"""The state of a training: its variables, taken out of a model and put back."""

from collections.abc import Sequence

import keras
import numpy as np


def build_optimizer(model: keras.Model) -> None:
    """Creates the variables of a compiled model's optimizer, if it has none yet.

    Args:
        model: A built and compiled model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> keras_advdef.core.training_state.build_optimizer(model)
    >>> model.optimizer.built
    True
    """
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


def training_state(model: keras.Model) -> list[keras.Variable]:
    """Returns all that a step depends on: weights, random states, the optimizer.

    Metrics are left out.

    Args:
        model: A built and compiled model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    >>> len(keras_advdef.core.training_state.training_state(model))
    6
    """
    build_optimizer(model)
    metrics = {id(each) for metric in model.metrics for each in metric.variables}
    found = [*model.variables, *model.optimizer.variables]
    return list({id(each): each for each in found if id(each) not in metrics}.values())


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Returns copies of the values of variables.

    Args:
        variables: The variables.

    Example:

    >>> keras_advdef.core.training_state.values_of([keras.Variable([1.0])])
    [array([1.], dtype=float32)]
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

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> assign_values = keras_advdef.core.training_state.assign_values
    >>> assign_values(model, model.weights, [np.full((1, 1), 2.0), np.zeros(1)])
    >>> float(model.weights[0][0, 0])
    2.0
    """
    with model.distribute_strategy.scope():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
