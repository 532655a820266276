"""Faster passes of a model in bfloat16, on the model's own variables."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import (
    flat_layers,
    has_graph,
    inbound_tensors,
    inner_layers,
    own_policy,
    producer,
    thread_policies,
)
from keras_advdef.core.model_view import is_tf_function

PRECISIONS = ("float32", "bfloat16")

_BFLOAT16 = ("mixed_bfloat16", "bfloat16")
_POLICIES = ("float32", "mixed_float16", *_BFLOAT16)
# Cheap, and a transform after them may need exact pixels.
_PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)


def bfloat16_error(what: str) -> ValueError:
    """Returns the error for a model that cannot run in bfloat16.

    Args:
        what: What cannot, to complete "for ...".

    Returns:
        The exception, for the caller to raise.

    Example:

    >>> str(keras_advdef.core.precision.bfloat16_error("a plain function"))[:71]
    '`LogitsFunction` expects `precision` to be "float32" for a plain functi'
    """
    rule = f'"float32" for {what}'
    advice = 'Pass precision="float32".'
    return invalid("LogitsFunction", "precision", rule, "bfloat16", advice=advice)


@contextlib.contextmanager
def in_bfloat16(
    model: keras.layers.Layer, keep: Sequence[keras.layers.Layer] = ()
) -> Iterator[None]:
    """Makes the layers of a model compute in bfloat16 in the body.

    Their dtype policy is `mixed_bfloat16` there: variables stay float32, and layers
    cast them and their inputs. Other threads are not affected.

    These stay in float32: the model's inputs, `keep`, `Rescaling`, `Normalization`,
    layers with `autocast=False` such as every `InputTransform`, the layers that contain
    one or lie in one, and layers pinned to float32 in a model of another policy. In an
    all-float32 model nothing counts as pinned, since Keras cannot tell an explicit
    `dtype="float32"` from the default.

    It pays if convolutions and matrix products dominate and the processor has bfloat16
    units (AMX or AVX512-BF16 on a CPU, tensor cores on a GPU). Other processors emulate
    bfloat16, which does not pay. For small batches, and models that mostly normalise,
    add and pool, the casts cost about what they save.

    Args:
        model: A built model.
        keep: Layers that stay in float32.

    Raises:
        ValueError: If a layer is neither float32 nor mixed, or its `call` is a
            `tf.function`, whose traces would outlive the body.

    Example:

    >>> dense = keras.layers.Dense(1)
    >>> model = keras.Sequential([keras.Input((2,)), dense])
    >>> with keras_advdef.core.precision.in_bfloat16(model):
    ...     dense.compute_dtype
    'bfloat16'
    >>> dense.compute_dtype
    'float32'
    """
    with thread_policies(_changes(model, keep)):
        yield


def _policy_name(layer: keras.layers.Layer) -> str:
    return own_policy(layer).name


def _changes(
    model: keras.layers.Layer, keep: Sequence[keras.layers.Layer]
) -> list[tuple[keras.layers.Layer, str]]:
    """Returns pairs of a layer that changes and the name of its new policy."""
    check_bfloat16(model)
    kept = {id(layer) for layer in (model, *keep)}
    is_mixed = _is_mixed(model)
    changes = []
    for layer in _computing_layers(model):
        name = _policy_name(layer)
        pinned = is_mixed and name == "float32"
        stays = pinned or id(layer) in kept or _passes_pixels(layer)
        target = "float32" if stays else "mixed_bfloat16"
        # bfloat16 layers stay as they are; float16 would need scaled gradients.
        if layer.autocast and name not in (target, *_BFLOAT16):
            changes.append((layer, target))
    return changes


def _computing_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    layers = flat_layers(model)
    exact = (inner_layers(layer) for layer in layers if not layer.autocast)
    left_out = {id(inner) for inside in exact for inner in inside}
    left_out |= {
        id(each) for each in layers if isinstance(each, keras.layers.InputLayer)
    }
    return [layer for layer in layers if id(layer) not in left_out]


def _is_leaf(layer: object) -> bool:
    return isinstance(layer, keras.layers.Layer) and len(flat_layers(layer)) == 1


def _is_mixed(model: keras.layers.Layer) -> bool:
    """Returns whether most layers of a model are not float32."""
    leaves = [layer for layer in _computing_layers(model) if _is_leaf(layer)]
    names = [_policy_name(layer) for layer in leaves if layer.autocast]
    return 2 * names.count("float32") < len(names)


def _passes_pixels(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer may pass on exact pixels; a graph itself does nothing."""
    holds_exact = any(not inner.autocast for inner in flat_layers(layer))
    return holds_exact or has_graph(layer) or isinstance(layer, _PREPROCESSING)


def check_bfloat16(model: Any) -> None:
    """Raises if a model cannot run in bfloat16.

    Args:
        model: Any model or function.

    Raises:
        ValueError: If it is not a Keras layer, or a layer in it is neither float32 nor
            mixed, or is a `tf.function`, whose traces would outlive `in_bfloat16`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> keras_advdef.core.precision.check_bfloat16(model)
    """
    if not isinstance(model, keras.layers.Layer):
        raise bfloat16_error("a model that is not a Keras layer")
    if is_tf_function(getattr(model, "logits", None)):
        raise bfloat16_error(f"`{model.name}`, whose `logits` is a `tf.function`")
    for layer in _computing_layers(model):
        name = _policy_name(layer)
        if name not in _POLICIES:
            raise bfloat16_error(f"`{layer.name}`, which has the dtype policy {name}")
        if is_tf_function(layer.call):
            raise bfloat16_error(f"`{layer.name}`, whose `call` is a `tf.function`")


def head_layers(model: Any) -> list[keras.layers.Layer]:
    """Returns the last layer with a kernel in a graph of layers, and those after it.

    In float32 they cost little and give logits of 24 instead of 8 significant bits.

    Args:
        model: Any model or function.

    Returns:
        A list of layers without sublayers, empty for a model without a graph.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(3),
    ...     keras.layers.Softmax()])
    >>> head = keras_advdef.core.precision.head_layers(model)
    >>> [type(layer).__name__ for layer in head]
    ['Softmax', 'Dense']
    """
    return _makers(model.outputs) if has_graph(model) else []


def _makers(tensors: Sequence[keras.KerasTensor]) -> list[keras.layers.Layer]:
    found = []
    for tensor in tensors:
        layer = producer(tensor)
        found += [layer] if _is_leaf(layer) else head_layers(layer)
        weights = getattr(layer, "weights", [])
        if all(len(weight.shape) < 2 for weight in weights):
            found += _makers(inbound_tensors(tensor))
    return found
