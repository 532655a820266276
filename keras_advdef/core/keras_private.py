"""Everything the package needs from Keras's private API to inspect models.

Keras 3.15 has no public equivalent. Each name has a test named after it, which shows
when a Keras release changes it. See `keras_training` for what training needs.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import keras
import tensorflow as tf
from keras.src.activations.activations import ReLU as ReluFunction
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.export.export_utils import get_input_signature
from keras.src.export.litert import export_litert
from keras.src.export.onnx import export_onnx
from keras.src.layers.preprocessing.image_preprocessing import (
    base_image_preprocessing_layer,
)
from keras.src.models.functional import Functional
from keras.src.ops.nn import LogSoftmax, Relu, Relu6, Sigmoid, Softmax
from keras.src.ops.numpy import Add as AdditionOperation
from keras.src.ops.numpy import Divide, Multiply, Subtract, TrueDivide
from keras.src.random.seed_generator import make_default_seed

__all__ = [
    "ARITHMETIC_OPERATIONS",
    "HEAD_OPERATIONS",
    "RELU_OPERATIONS",
    "AdditionOperation",
    "BaseImagePreprocessingLayer",
    "FloatFunctional",
    "ReluFunction",
    "call_arguments",
    "consumers",
    "conversion_format",
    "flat_layers",
    "get_input_signature",
    "has_graph",
    "in_stateless_scope",
    "inbound_tensors",
    "inner_layers",
    "learning_normalizations",
    "make_default_seed",
    "output_index",
    "preserve_losses",
    "producer",
    "recorded_moments",
    "seed_state_variables",
    "twin_layer",
    "without_call_info",
]

_Kind = TypeVar("_Kind", bound=Exception)
RELU_OPERATIONS = (Relu, Relu6)
ARITHMETIC_OPERATIONS = {
    AdditionOperation: "add",
    Subtract: "subtract",
    Multiply: "multiply",
    Divide: "divide",
    TrueDivide: "divide",
}
# The functions of operations that turn logits into probabilities or their logarithms.
HEAD_OPERATIONS = {
    Softmax: keras.activations.softmax,
    LogSoftmax: keras.activations.log_softmax,
    Sigmoid: keras.activations.sigmoid,
}
BaseImagePreprocessingLayer = base_image_preprocessing_layer.BaseImagePreprocessingLayer


class FloatFunctional(Functional):
    """A functional model that does not cast its inputs.

    Example:

    >>> inputs = keras.Input((1,), dtype="uint8")
    >>> make = keras_advdef.core.keras_private.FloatFunctional
    >>> make(inputs, inputs)(tf.constant([[0.25]])).numpy().tolist()
    [[0.25]]
    """

    def _convert_inputs_to_tensors(self, flat_inputs: list[Any]) -> list[tf.Tensor]:
        return [keras.ops.convert_to_tensor(each) for each in flat_inputs]


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer or operation that made a symbolic tensor.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Returns:
        A `keras.Operation`; layers are operations.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> type(keras_advdef.core.keras_private.producer(model.outputs[0])).__name__
    'Dense'
    """
    return tensor._keras_history.operation


def inbound_tensors(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Returns the symbolic inputs of the operation that made a symbolic tensor.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Returns:
        A list of `keras.KerasTensor`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.inbound_tensors(model.outputs[0])[0].shape
    (None, 2)
    """
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def call_arguments(tensor: keras.KerasTensor) -> list[Any]:
    """Returns the positional arguments of the call that made a symbolic tensor.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Example:

    >>> inputs = keras.Input((2,))
    >>> keras_advdef.core.keras_private.call_arguments(inputs + 1.0)[1]
    1.0
    """
    history = tensor._keras_history
    return list(history.operation._inbound_nodes[history.node_index].arguments.args)


def output_index(tensor: keras.KerasTensor) -> int:
    """Returns which output of its operation a symbolic tensor is.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Example:

    >>> keras_advdef.core.keras_private.output_index(keras.Input((2,)))
    0
    """
    return tensor._keras_history.tensor_index


def has_graph(layer: Any) -> bool:
    """Returns whether a model is a graph of layers, which can be taken apart.

    Args:
        layer: Any layer or model.

    Returns:
        True for a built `keras.Sequential` or functional model that does not override
        `call`, False for anything else.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.has_graph(model)
    True
    """
    call = getattr(type(layer), "call", None)
    return call in (Functional.call, keras.Sequential.call) and layer.built


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model and all its layers, including those of nested models.

    Args:
        model: Any model.

    Returns:
        A list of layers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> [type(layer).__name__
    ...  for layer in keras_advdef.core.keras_private.flat_layers(model)]
    ['Sequential', 'InputLayer', 'Dense']
    """
    return list(model._flatten_layers())


def consumers(
    model: keras.Model, tensor: keras.KerasTensor
) -> list[tuple[keras.Operation, list[keras.KerasTensor], dict[str, Any]]]:
    """Returns the operations that take a symbolic tensor of a functional model.

    Args:
        model: The model.
        tensor: A `keras.KerasTensor` in it.

    Returns:
        Triples of a layer or operation, its output tensors, and its keyword arguments.

    Example:

    >>> inputs = keras.Input((2,))
    >>> model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    >>> from keras_advdef.core.keras_private import consumers
    >>> [type(layer).__name__ for layer, _, _ in consumers(model, model.inputs[0])]
    ['Dense']
    """
    return [
        (operation, node.outputs, node.arguments.kwargs)
        for operation in model.operations
        for node in operation._inbound_nodes
        if any(each is tensor for each in node.input_tensors)
    ]


def inner_layers(layer: keras.Operation) -> list[keras.layers.Layer]:
    """Returns the layers inside a layer, at any depth.

    Args:
        layer: A layer; or an operation, which has no layers inside.

    Returns:
        A list of layers.

    Example:

    >>> layer = keras.layers.TimeDistributed(keras.layers.Dense(1))
    >>> [type(inner).__name__
    ...  for inner in keras_advdef.core.keras_private.inner_layers(layer)]
    ['Dense']
    """
    if not isinstance(layer, keras.layers.Layer):
        return []
    return list(layer._flatten_layers(include_self=False))


def twin_layer(layer: keras.layers.Layer, **attributes: Any) -> keras.layers.Layer:
    """Returns a layer with the same class, name and variables, but other attributes.

    Args:
        layer: A built layer.
        **attributes: Plain attributes that differ.

    Returns:
        A layer that has not been called yet.

    Example:

    >>> layer = keras.layers.Dense(3, activation="relu")
    >>> layer.build((None, 4))
    >>> linear = keras.activations.linear
    >>> twin = keras_advdef.core.keras_private.twin_layer(layer, activation=linear)
    >>> twin.kernel is layer.kernel
    True
    """
    twin = object.__new__(type(layer))
    fresh: dict[str, Any] = {"_inbound_nodes": [], "_outbound_nodes": [], "_losses": []}
    # `setattr` would make Keras track the attributes as those of an unbuilt layer.
    twin.__dict__.update({**layer.__dict__, **fresh, **attributes})
    return twin


def learning_normalizations(
    model: keras.Model,
) -> list[keras.layers.BatchNormalization]:
    """Returns the layers of batch normalization whose statistics training changes.

    Args:
        model: Any model.

    Example:

    >>> layers = [keras.layers.BatchNormalization(trainable=each)
    ...           for each in (False, True)]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> found = keras_advdef.core.keras_private.learning_normalizations(model)
    >>> found == layers[1:]
    True
    """
    return [
        layer
        for layer in flat_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


@contextlib.contextmanager
def recorded_moments(
    layers: Sequence[keras.layers.BatchNormalization],
) -> Iterator[list[list[tuple[Any, Any]]]]:
    """Records the mean and variance of each batch that layers normalise in the body.

    Args:
        layers: Layers of batch normalisation.

    Yields:
        For each layer, a list with a pair for each call in training mode.

    Example:

    >>> layer = keras.layers.BatchNormalization()
    >>> with keras_advdef.core.keras_private.recorded_moments([layer]) as found:
    ...     outputs = layer(np.array([[1.0], [3.0]]), training=True)
    >>> [float(each[0]) for each in found[0][0]]
    [2.0, 1.0]
    """
    found: list[list[tuple[Any, Any]]] = [[] for _ in layers]

    def recording(layer: Any, calls: list[tuple[Any, Any]]) -> Any:
        moments = type(layer)._moments

        def recorded(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
            calls.append(moments(layer, *args, **kwargs))
            return calls[-1]

        return recorded

    for layer, calls in zip(layers, found, strict=True):
        vars(layer)["_moments"] = recording(layer, calls)
    try:
        yield found
    finally:
        for layer in layers:
            del vars(layer)["_moments"]


def seed_state_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the state of every `keras.random.SeedGenerator` inside a model.

    Args:
        model: Any built model.

    Returns:
        A list of uint32 variables of shape `(2,)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
    >>> len(keras_advdef.core.keras_private.seed_state_variables(model))
    1
    """
    layers = flat_layers(model)
    return [seeds.state for layer in layers for seeds in layer._seed_generators]


@contextlib.contextmanager
def preserve_losses(model: keras.Model) -> Iterator[None]:
    """Restores, after the body, the losses that a model has from `add_loss`.

    Keras discards them whenever the model or layer is called again.

    Args:
        model: Any model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> with keras_advdef.core.keras_private.preserve_losses(model):
    ...     outputs = model(np.zeros((3, 2)))
    """
    losses = [(layer, list(layer._losses)) for layer in flat_layers(model)]
    try:
        yield
    finally:
        for layer, kept in losses:
            layer._losses[:] = kept


def conversion_format() -> str | None:
    """Returns the format that the graph being traced will be converted to.

    Keras's exporters and tf2onnx do not say what they trace a model for, so they are
    looked up on the call stack.

    Returns:
        "onnx" or "litert", or `None` outside of such an export.

    Example:

    >>> keras_advdef.core.keras_private.conversion_format() is None
    True
    """
    frame = None if tf.executing_eagerly() else sys._getframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if frame.f_code is export_onnx.__code__ or module.startswith("tf2onnx."):
            return "onnx"
        if frame.f_code is export_litert.__code__:
            return "litert"
        frame = frame.f_back
    return None


def without_call_info(error: _Kind) -> _Kind:
    """Marks an error so that Keras does not add text about the layer's call to it.

    Args:
        error: The exception, for the caller to raise.

    Returns:
        The same exception.

    Example:

    >>> error = ValueError("Too few images.")
    >>> keras_advdef.core.keras_private.without_call_info(error) is error
    True
    """
    error._keras_call_info_injected = True  # type: ignore[attr-defined]
    return error


_active = threading.local()


class _PolicyInThread:
    """Gives a layer the dtype policy that this thread has set, or its own.

    Keras stores the policy in an attribute that all threads share. It stays there; this
    descriptor only decides which policy a thread reads.
    """

    def __get__(self, layer: keras.layers.Layer | None, owner: type) -> Any:
        if layer is None:
            return self
        policies = _active.__dict__.get("policies", {})
        if id(layer) in policies:
            return policies[id(layer)]
        if "_dtype_policy" not in vars(layer):
            # As for any attribute of a partly constructed object.
            raise AttributeError("_dtype_policy")
        return own_policy(layer)

    def __set__(self, layer: keras.layers.Layer, policy: keras.DTypePolicy) -> None:
        vars(layer)["_dtype_policy"] = policy


keras.layers.Layer._dtype_policy = _PolicyInThread()


def own_policy(layer: keras.layers.Layer) -> keras.DTypePolicy:
    """Returns a layer's own dtype policy, which `thread_policies` does not change.

    Args:
        layer: Any layer.

    Returns:
        A `keras.DTypePolicy`.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> keras_advdef.core.keras_private.own_policy(layer).name
    'float32'
    """
    return vars(layer)["_dtype_policy"]


@contextlib.contextmanager
def thread_policies(
    policies: Sequence[tuple[keras.layers.Layer, str]],
) -> Iterator[None]:
    """Gives layers other dtype policies in this thread, while the body runs.

    Args:
        policies: Pairs of a layer and the name of its policy.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> from keras_advdef.core.keras_private import thread_policies
    >>> with thread_policies([(layer, "mixed_bfloat16")]):
    ...     layer.compute_dtype
    'bfloat16'
    >>> layer.compute_dtype
    'float32'
    """
    outer = _active.__dict__.get("policies", {})
    made = {name: keras.dtype_policies.get(name) for _, name in policies}
    inner = {id(layer): made[name] for layer, name in policies}
    _active.policies = {**outer, **inner}
    try:
        yield
    finally:
        _active.policies = outer
