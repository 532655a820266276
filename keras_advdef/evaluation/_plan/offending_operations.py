"""offending_operations: the layers and operations that block gradients."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.keras_private import flat_layers, has_graph
from keras_advdef.core.model_view import replace_call

# A move of the inputs, as a share of their spread, and the share of the change promised
# by a backward pass that must come true.
_MOVE = 1e-2
_KEPT = (0.5, 2.0)
# The gradient counts as missing if more than this share of the images has none.
LARGEST_SHARE = 0.1

_Forward = Callable[..., Any]
# An operation, how it was called, and with what.
_Call = tuple[keras.Operation, _Forward, tuple[Any, ...]]


def defective(gradient: tf.Tensor | None, count: int) -> np.ndarray:
    """Returns which images have no usable gradient: missing, all zero or not finite.

    Args:
        gradient: Tensor `(count, ...)`, or `None` if TensorFlow found no path.
        count: Number of images.

    Returns:
        Boolean array `(count,)`.

    Example:

    >>> from keras_advdef.evaluation._plan.offending_operations import defective
    >>> defective(tf.constant([[0.0, 1.0], [0.0, 0.0], [np.nan, 1.0]]), 3).tolist()
    [False, True, True]
    """
    if gradient is None:
        return np.ones(count, bool)
    rows = tf.convert_to_tensor(gradient).numpy().reshape(count, -1)
    return ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)


def offending_operations(
    model: Any, run: Callable[[], object]
) -> tuple[list[keras.Operation], list[keras.Operation]]:
    """Returns the layers and operations that block gradients in a model.

    Args:
        model: A Keras model; other models have no operations to inspect.
        run: Calls the model, eagerly, on some images.

    Returns:
        Two lists of layers and operations: those whose output has the shape of their
        input, so that BPDA can use the identity as their backward pass, and the
        others.
    """
    if not isinstance(model, keras.layers.Layer):
        return [], []
    calls = _calls(model, run)
    same: list[keras.Operation] = []
    other: list[keras.Operation] = []
    for operation, forward, (inputs, *rest) in calls.values():
        if _stops_gradient(forward, inputs, rest):
            keeps_shape = forward(inputs, *rest).shape == inputs.shape
            (same if keeps_shape else other).append(operation)
    return same, other


def misleading_operations(
    model: Any, run: Callable[[], object]
) -> list[keras.Operation]:
    """Returns the layers and operations whose backward pass is not their derivative.

    Only those whose output has the shape of their input, so that BPDA can use the
    identity as their backward pass.

    Args:
        model: A Keras model; other models have no operations to inspect.
        run: Calls the model, eagerly, on some images.
    """
    if not isinstance(model, keras.layers.Layer):
        return []
    return [
        operation
        for operation, forward, (inputs, *rest) in _calls(model, run).values()
        if _misleads(forward, inputs, rest)
    ]


def _calls(model: keras.layers.Layer, run: Callable[[], object]) -> dict[int, _Call]:
    """How each operation of a model is called."""
    calls: dict[int, _Call] = {}
    with contextlib.ExitStack() as stack:
        for operation in _operations(model):
            stack.enter_context(_recorded(operation, calls))
        run()
    return calls


def _misleads(forward: _Forward, inputs: tf.Tensor, rest: Sequence[object]) -> bool:
    """Whether moves along the backward pass do not do what it promises."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = forward(inputs, *rest)
    if not tf.is_tensor(outputs) or outputs.shape != inputs.shape:
        return False
    weights = tf.random.stateless_normal(outputs.shape, [0, 0], dtype=outputs.dtype)
    slope = tape.gradient(outputs, inputs, weights, unconnected_gradients="zero")
    size = tf.maximum(tf.math.reduce_std(slope), tf.cast(1e-30, slope.dtype))
    move = _MOVE * tf.math.reduce_std(inputs) * slope / size

    def moved(share: float) -> tf.Tensor:
        return tf.reduce_sum(weights * forward(inputs + share * move, *rest))

    promised = float(2.0 * tf.reduce_sum(slope * move))
    low, high = _KEPT
    # Not `<`, which is false for NaN.
    return not low * promised <= float(moved(1.0) - moved(-1.0)) <= high * promised


def _operations(model: keras.layers.Layer) -> list[keras.Operation]:
    """The layers without sublayers, and the graph operations that are not layers."""
    layers = flat_layers(model)
    leaves = [layer for layer in layers if len(flat_layers(layer)) == 1]
    graphs = [layer for layer in layers if has_graph(layer)]
    bare = [
        operation
        for graph in graphs
        # A Sequential model holds only layers.
        if not isinstance(graph, keras.Sequential)
        for operation in graph.operations
        if not isinstance(operation, keras.layers.Layer)
    ]
    return [
        each
        for each in [*leaves, *bare]
        if not isinstance(each, keras.layers.InputLayer)
    ]


@contextlib.contextmanager
def _recorded(operation: keras.Operation, calls: dict[int, _Call]) -> Iterator[None]:
    def recording(forward: _Forward) -> _Forward:
        def call(*args: Any, **kwargs: Any) -> Any:
            if _is_single(args):
                plain = _bound(forward, kwargs) if kwargs else forward
                calls[id(operation)] = (operation, plain, args)
            return forward(*args, **kwargs)

        return call

    with replace_call(operation, recording):
        yield


def _bound(forward: _Forward, kwargs: dict[str, Any]) -> _Forward:
    return lambda *args: forward(*args, **kwargs)


def _is_single(args: tuple[Any, ...]) -> bool:
    return bool(args) and tf.is_tensor(args[0]) and args[0].dtype.is_floating


def _stops_gradient(
    forward: _Forward, inputs: tf.Tensor, rest: Sequence[object]
) -> bool:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = forward(inputs, *rest)
        if not tf.is_tensor(outputs) or not outputs.dtype.is_floating:
            return False
        # Not all ones: a softmax or a normalization removes that direction.
        weights = tf.random.stateless_normal(outputs.shape, [0, 0], dtype=outputs.dtype)
        total = tf.reduce_sum(weights * outputs)
    missing = defective(tape.gradient(total, inputs), inputs.shape[0])
    return bool(missing.mean() > LARGEST_SHARE)
