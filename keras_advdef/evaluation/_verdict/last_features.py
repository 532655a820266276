"""last_features: the features from which the last layer of a model takes its logits."""

from typing import Any

import keras

from keras_advdef.core.keras_private import (
    has_graph,
    inbound_tensors,
    inner_layers,
    producer,
)

_MATRIX = 2


class NoFeaturesError(Exception):
    """Says why a model cannot be taken apart, as half a sentence."""


def last_features(model: Any) -> keras.Model:
    """Returns the part of a classifier up to its last layer with a weight matrix.

    The layers are shared, so random layers and preprocessing inside stay. If several
    branches are joined after their last such layers, the features of all are returned.

    Args:
        model: A Sequential or functional model.

    Returns:
        A functional model of the same input, whose output has shape `(batch, size)`.

    Raises:
        NoFeaturesError: If the model is no graph of layers, or a part of its output
            does not come from a layer of Keras with a weight matrix.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3),
    ...     keras.layers.Softmax()])
    >>> from keras_advdef.evaluation._verdict.last_features import last_features
    >>> last_features(model).output_shape
    (None, 5)
    """
    if not has_graph(model):
        raise NoFeaturesError("the model is not a graph of layers")
    inner: dict[int, keras.Model] = {}
    found: list[keras.KerasTensor] = []
    for output in model.outputs:
        found += _before_head(output, inner)
    joined = [
        # A name that the model's own layers do not have.
        keras.layers.Flatten(name=f"{model.name}_last_features_{index}")(each)
        for index, each in enumerate(found)
    ]
    if len(joined) > 1:
        name = f"{model.name}_last_features"
        joined = [keras.layers.Concatenate(name=name)(joined)]
    is_sequential = isinstance(model, keras.Sequential)
    inputs = model.inputs[0] if is_sequential else model.input
    return keras.Model(inputs, joined[0], name=model.name)


def _before_head(
    tensor: keras.KerasTensor, inner: dict[int, keras.Model]
) -> list[keras.KerasTensor]:
    """Returns the inputs of the last layers with a matrix that made a tensor.

    Args:
        tensor: A tensor of a model.
        inner: The same for the models inside, by their id, made once for each.
    """
    operation, inputs = producer(tensor), inbound_tensors(tensor)
    if isinstance(operation, keras.layers.InputLayer):
        raise NoFeaturesError("its output takes in the image itself, past all layers")
    if has_graph(operation):
        if id(operation) not in inner:
            inner[id(operation)] = last_features(operation)
        return [inner[id(operation)](inputs[0])]
    if any(len(each.shape) >= _MATRIX for each in getattr(operation, "weights", [])):
        is_of_keras = type(operation).__module__.startswith("keras.")
        if not is_of_keras or isinstance(operation, keras.Model):
            reason = f"its layer `{operation.name}` is not one of Keras's own"
            raise NoFeaturesError(reason)
        return list(inputs)
    if inner_layers(operation):
        reason = f"its layer `{operation.name}` holds others in code of its own"
        raise NoFeaturesError(reason)
    return [found for each in inputs for found in _before_head(each, inner)]
