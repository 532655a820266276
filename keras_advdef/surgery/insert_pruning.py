"""insert_pruning: adds stochastic activation pruning to an existing model."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import RELU_OPERATIONS, ReluFunction
from keras_advdef.layers import StochasticActivationPruning
from keras_advdef.surgery._names import Names
from keras_advdef.surgery.rewrite import rewrite
from keras_advdef.surgery.split_activation import fused_activation

_RELUS = (
    keras.activations.relu,
    keras.activations.relu6,
    keras.ops.relu,
    keras.ops.relu6,
    tf.nn.relu,
    tf.nn.relu6,
)


def insert_pruning(
    model: keras.Model,
    *,
    fraction: float = 1.0,
    sampling: str = "multinomial",
    copy: bool = False,
) -> keras.Model:
    """Returns a model with stochastic activation pruning after every ReLU.

    It needs no training (Dhillon et al., ICLR 2018). ReLU and ReLU6 are found as
    layers, as activations of dense and convolutional layers, and as operations.

    Args:
        model: A built `keras.Sequential` or functional model; see `rewrite`.
        fraction: Number above 0; see `layers.StochasticActivationPruning`.
        sampling: "multinomial" or "bernoulli"; see the same.
        copy: Whether the new model gets its own copy of the weights.

    Returns:
        A new model that shares its layers with `model`, unless `copy` is set.

    Raises:
        ValueError: If an argument is out of range, or the model has no ReLU or cannot
            be rebuilt.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"),
    ...     keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> pruned = keras_advdef.surgery.insert_pruning(model)
    >>> type(pruned.layers[1]).__name__
    'StochasticActivationPruning'
    """
    owner = "insert_pruning"
    found: list[keras.Operation] = []
    names = Names(model)

    def rule(step: keras.Operation) -> list[keras.Operation] | None:
        if not _ends_in_relu(step):
            return None
        found.append(step)
        dtype = getattr(step, "dtype_policy", None)
        options: dict[str, Any] = {"fraction": fraction, "sampling": sampling}
        name = names.new(f"{step.name}_pruning")
        return [step, StochasticActivationPruning(name=name, dtype=dtype, **options)]

    pruned = rewrite(model, rule, copy=copy, owner=owner)
    if not found:
        advice = "Add `layers.StochasticActivationPruning` after its activations."
        raise invalid(owner, "model", "a model with a ReLU", model, advice=advice)
    return pruned


def _ends_in_relu(step: keras.Operation) -> bool:
    if isinstance(step, (keras.layers.ReLU, ReluFunction)):
        return not step.negative_slope and not step.threshold
    if isinstance(step, keras.layers.Activation):
        return step.activation in _RELUS
    return isinstance(step, RELU_OPERATIONS) or fused_activation(step) in _RELUS
