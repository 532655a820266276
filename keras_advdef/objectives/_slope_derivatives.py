"""Derivatives of slopes with respect to weights, without a pass that gives zeros."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import (
    has_graph,
    inbound_tensors,
    preserve_losses,
    producer,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.softmax_head import single_output, two_class_logits

_LAYERS = keras.layers
_PIECEWISE = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.leaky_relu,
)
# They multiply by their kernel as it is, so that a slope is made of it directly.
_WEIGHTED = (
    _LAYERS.Dense,
    _LAYERS.Conv2D,
    _LAYERS.DepthwiseConv2D,
    _LAYERS.Conv2DTranspose,
)
# Linear in pieces, and without weights.
_PLAIN = (
    _LAYERS.InputLayer,
    _LAYERS.Flatten,
    _LAYERS.Reshape,
    _LAYERS.Permute,
    _LAYERS.Dropout,
    _LAYERS.SpatialDropout2D,
    _LAYERS.ZeroPadding2D,
    _LAYERS.Cropping2D,
    _LAYERS.MaxPooling2D,
    _LAYERS.AveragePooling2D,
    _LAYERS.GlobalMaxPooling2D,
    _LAYERS.GlobalAveragePooling2D,
    _LAYERS.Rescaling,
    _LAYERS.ReLU,
    _LAYERS.LeakyReLU,
    _LAYERS.Add,
    _LAYERS.Subtract,
    _LAYERS.Average,
    _LAYERS.Concatenate,
)
Logits = Callable[[tf.Tensor], tf.Tensor]


def through_slopes(
    model: Any,
    compute: Callable[[Logits, Any], tf.Tensor],
    start: tf.Tensor,
    *,
    parts: int = 1,
) -> tf.Tensor:
    """Returns a sum made of a classifier's slopes, with derivatives by the weights.

    Where a model is linear in pieces, as with ReLU, its slopes depend on the weights
    only through the products that they are made of. Differentiated as a whole,
    TensorFlow sends zeros back through the pass that gave the logits, at the price of
    any other gradient; here that pass counts as constant then.

    Several parts are computed one after the other, and once more for derivatives, so
    that time and memory of tracing do not grow with them, nor memory.

    Args:
        model: The classifier.
        compute: Takes a function from images to logits and the number of a part, and
            returns a tensor made of the logits' derivatives by the images and of
            nothing else that depends on weights.
        start: What all parts are added to, of the shape of each.
        parts: How many parts there are.

    Returns:
        The sum.

    Example:

    >>> from keras_advdef.objectives._slope_derivatives import through_slopes
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.array([[3.0, 4.0]]), np.zeros(2)])
    >>> def squared_slope(logits_fn, part):
    ...     images = tf.ones((1, 1))
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(images)
    ...         total = tf.reduce_sum(logits_fn(images))
    ...     return tape.gradient(total, images) ** 2
    >>> with tf.GradientTape() as tape:
    ...     value = through_slopes(model, squared_slope, tf.zeros((1, 1)))
    >>> tape.gradient(value, model.trainable_weights)[0].numpy().tolist()
    [[14.0, 14.0]]
    """
    if is_linear_in_pieces(model):
        weights = (tf.convert_to_tensor(each.value) for each in model.weights)
        return _by_products(model, compute, start, parts)(*weights)
    logits_fn = LogitsFunction(model)
    if parts == 1:
        return start + compute(logits_fn, 0)
    return _part_by_part(lambda part: compute(logits_fn, part), parts)(start)


def _by_products(
    model: Any, compute: Callable[..., tf.Tensor], start: tf.Tensor, parts: int
) -> Callable[..., tf.Tensor]:
    """Returns the sum as a function of the weights that slopes are made of."""

    def recorded(part: Any, weights: Any) -> tuple[tf.Tensor, Callable[..., Any]]:
        # A loop would take them in while no tape records.
        weights = [tf.identity(each) for each in weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)

            def logits_fn(images: tf.Tensor) -> tf.Tensor:
                # Slopes are made of these tensors, which the tape knows.
                given = zip(model.weights, weights, strict=True)
                scope = keras.StatelessScope(given)
                with preserve_losses(model), scope, tape.stop_recording():
                    outputs = call_classifier(model, images, training=False)
                return two_class_logits(single_output("LogitsFunction", outputs))

            value = compute(logits_fn, part)
        return value, lambda upstream: tape.gradient(value, weights, upstream, "zero")

    @tf.custom_gradient
    def only_part(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        value, gradient = recorded(0, weights)
        return start + value, gradient

    @tf.custom_gradient
    def all_parts(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        total = _summed(lambda part: (recorded(part, weights)[0],), (start,), parts)

        def gradient(upstream: tf.Tensor) -> Any:
            zeros = [tf.zeros_like(each) for each in weights]
            return _summed(
                lambda part: recorded(part, weights)[1](upstream), zeros, parts
            )

        return total[0], gradient

    return only_part if parts == 1 else all_parts


def _part_by_part(
    compute: Callable[[Any], tf.Tensor], parts: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that adds up parts, whose derivatives compute them anew."""

    @tf.custom_gradient
    def all_parts(start: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        total = _summed(lambda part: (compute(part),), (start,), parts)

        def gradient(upstream: tf.Tensor, variables: Any = ()) -> Any:
            def slopes(part: Any) -> Any:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(variables)
                    value = compute(part)
                return tape.gradient(value, variables, upstream, "zero")

            zeros = [tf.zeros_like(each) for each in variables]
            return upstream, list(_summed(slopes, zeros, parts))

        return total[0], gradient

    return all_parts


def _summed(
    compute: Callable[[Any], Sequence[tf.Tensor]], start: Sequence[Any], parts: int
) -> tuple[tf.Tensor, ...]:
    def add(part: Any, sums: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return tuple(a + b for a, b in zip(sums, compute(part), strict=True))

    return fixed_loop(add, tuple(start), parts, unroll=False)


def is_linear_in_pieces(model: keras.Model) -> bool:
    """Returns whether a model is known to be one, with weights that only multiply.

    Args:
        model: Any model.

    Returns:
        False also where it is not known: for subclasses of Keras's layers, half
        precision, and `BatchNormalization`, which divides its weights first.

    Example:

    >>> from keras_advdef.objectives._slope_derivatives import is_linear_in_pieces
    >>> layer = keras.layers.Dense(2, activation="relu")
    >>> is_linear_in_pieces(keras.Sequential([keras.Input((2,)), layer]))
    True
    """
    if not has_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    open_tensors, seen = [model.outputs[0]], {id(model.inputs[0])}
    while open_tensors:
        tensor = open_tensors.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        step = producer(tensor)
        if not (is_linear_in_pieces(step) if has_graph(step) else _is_known(step)):
            return False
        open_tensors += inbound_tensors(tensor)
    return True


def _is_known(step: Any) -> bool:
    if type(step) is _LAYERS.Activation:
        return step.activation in _PIECEWISE
    if type(step) in _PLAIN:
        return step.compute_dtype == "float32"
    if type(step) not in _WEIGHTED:
        return False
    # Keras compiles convolutions of several groups, whose slopes do not show the
    # weights they were called with.
    is_grouped = type(step) is _LAYERS.Conv2D and step.groups > 1
    return (
        not is_grouped
        and step.dtype_policy.name == "float32"
        and step.activation in _PIECEWISE
        # Not so where a low-rank update is added to it.
        and isinstance(step.kernel, keras.Variable)
    )
