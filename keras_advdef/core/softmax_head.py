"""Undoes the softmax at the end of a model, on the model's own layers."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import (
    SoftmaxOperation,
    has_graph,
    inbound_tensors,
    producer,
)

_SOFTMAX = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)


def _is_softmax(operation: Any) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return operation.activation in _SOFTMAX
    return isinstance(operation, (keras.layers.Softmax, SoftmaxOperation))


def without_softmax(model: keras.Model) -> keras.Model | None:
    """Rebuilds a model on the same layers up to its softmax; `None` if it has none.

    Args:
        model: A built Sequential or functional model with one output.

    Returns:
        A model that shares all weights and returns logits, or `None`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> logits = keras_advdef.core.softmax_head.without_softmax(model)
    >>> logits(np.zeros((1, 2))).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """
    operation = producer(model.outputs[0])
    before = _single(inbound_tensors(model.outputs[0]) or model.inputs)
    if has_graph(operation):
        inner = without_softmax(operation)
        return inner and keras.Model(_single(model.inputs), inner(before))
    if _is_softmax(operation):
        return keras.Model(_single(model.inputs), before)
    if getattr(operation, "activation", None) in _SOFTMAX:
        return keras.Model(_single(model.inputs), _LinearHead(operation)(before))
    return None


def _single(tensors: list[Any]) -> Any:
    return tensors if tensors[1:] else tensors[0]


class _LinearHead(keras.layers.Layer):
    """Calls a layer, on its own weights, as if it had no activation."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        # The layer casts for itself, also while it has another policy.
        super().__init__(dtype=layer.dtype_policy, autocast=False)
        self.layer = layer

    def call(self, inputs: Any) -> Any:
        activation = self.layer.activation
        self.layer.activation = keras.activations.linear
        try:
            return self.layer(inputs)
        finally:
            self.layer.activation = activation
