"""Every name the package takes from Keras's private parts to read models.

Keras 3.15 has no public way to them. A test named after each tells when one moves.
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
from keras.src.ops.nn import Relu, Relu6
from keras.src.ops.numpy import Add as AdditionOperation
from keras.src.random.seed_generator import make_default_seed

__all__ = [
    "RELU_OPERATIONS",
    "AdditionOperation",
    "BaseImagePreprocessingLayer",
    "FloatFunctional",
    "ReluFunction",
    "consumers",
    "conversion_format",
    "flat_layers",
    "get_input_signature",
    "has_graph",
    "in_stateless_scope",
    "inbound_tensors",
    "inner_layers",
    "make_default_seed",
    "preserve_losses",
    "producer",
    "seed_state_variables",
    "twin_layer",
    "without_call_info",
]

_Kind = TypeVar("_Kind", bound=Exception)
RELU_OPERATIONS = (Relu, Relu6)
BaseImagePreprocessingLayer = base_image_preprocessing_layer.BaseImagePreprocessingLayer


class FloatFunctional(Functional):
    """A functional model that does not cast what it is called on.

    Example:

    >>> inputs = keras.Input((1,), dtype="uint8")
    >>> make = keras_advdef.core.keras_private.FloatFunctional
    >>> make(inputs, inputs)(tf.constant([[0.25]])).numpy().tolist()
    [[0.25]]
    """

    def _convert_inputs_to_tensors(self, flat_inputs: Any) -> list[Any]:
        return [keras.ops.convert_to_tensor(each) for each in flat_inputs]


def producer(tensor: Any) -> Any:
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


def inbound_tensors(tensor: Any) -> list[Any]:
    """Returns the symbolic tensors from which a symbolic tensor was made.

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


def has_graph(layer: Any) -> bool:
    """Returns whether a model is a graph of layers that can be rebuilt in parts.

    Args:
        layer: Any layer or model.

    Returns:
        True for a built `keras.Sequential` or functional model whose `call` is
        Keras's own, False for anything else.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.has_graph(model)
    True
    """
    call = getattr(type(layer), "call", None)
    return call in (Functional.call, keras.Sequential.call) and layer.built


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model and all layers in it, those of nested models included.

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


def consumers(model: keras.Model, tensor: Any) -> list[tuple[Any, list[Any], Any]]:
    """Returns what takes a symbolic tensor of a functional model.

    Args:
        model: The model.
        tensor: A `keras.KerasTensor` in it.

    Returns:
        Layers and operations, the tensors that they make, and their other arguments.

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


def inner_layers(layer: Any) -> list[keras.layers.Layer]:
    """Returns the layers within a layer, at any depth.

    Args:
        layer: A layer, or an operation, which has none.

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
    """Returns a layer of the same class, name and variables, with other attributes.

    Args:
        layer: A built layer.
        **attributes: Plain attributes that differ.

    Returns:
        A layer that has been called nowhere yet.

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
    # Keras's own way to set attributes would track them anew, as of an unbuilt layer.
    twin.__dict__.update({**layer.__dict__, **fresh, **attributes})
    return twin


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
    """Puts back, at its end, what the last call of a model added with `add_loss`.

    Keras forgets these losses whenever a model or layer is called anew.

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
    """Returns the foreign format that the graph being traced is to be converted to.

    Keras's exporters and tf2onnx tell nobody what they trace a model for; they are
    found among the functions that wait for this one.

    Returns:
        "onnx", "litert", or `None` outside of such an export.

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
    """Returns an error to whose text Keras adds nothing, raised in whatever call.

    Keras would wrap it into lines about the call and its arguments.

    Args:
        error: The exception, which the caller raises.

    Example:

    >>> error = ValueError("Too few images.")
    >>> keras_advdef.core.keras_private.without_call_info(error) is error
    True
    """
    error._keras_call_info_injected = True  # type: ignore[attr-defined]
    return error


_active = threading.local()


class _PolicyInThread:
    """Stands for the policy of a layer: what this thread has set instead, or its own.

    Keras keeps it in one attribute of the layer, which all threads see. There it still
    lies; only who asks for it is asked who he is.
    """

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        policies = _active.__dict__.get("policies", {})
        if id(layer) in policies:
            return policies[id(layer)]
        if "_dtype_policy" not in vars(layer):
            # As for any attribute of an object that is only half made.
            raise AttributeError("_dtype_policy")
        return own_policy(layer)

    def __set__(self, layer: Any, policy: Any) -> None:
        vars(layer)["_dtype_policy"] = policy


keras.layers.Layer._dtype_policy = _PolicyInThread()


def own_policy(layer: keras.layers.Layer) -> Any:
    """Returns the dtype policy that a layer has in all other threads.

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
    """Gives layers other dtype policies, which only this thread sees.

    Args:
        policies: Layers, each with the name of its policy while the body runs.

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
