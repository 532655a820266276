"""Double backward: weight gradients of input gradients, without a pass for zeros."""

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
# They multiply by their kernel as it is, so that input gradients contain it directly.
_WEIGHTED = (
    _LAYERS.Dense,
    _LAYERS.Conv2D,
    _LAYERS.DepthwiseConv2D,
    _LAYERS.Conv2DTranspose,
)
# Piecewise linear, and without weights.
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


def double_backward(
    model: keras.Model,
    compute: Callable[[Logits, tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    *,
    parts: int = 1,
) -> tf.Tensor:
    """Returns a sum of functions of input gradients, differentiable in the weights.

    The input gradients of a piecewise linear model, such as one with ReLU, depend on
    the weights only as products of them. Plain double backward sends zeros through the
    forward pass that gave the logits, at the price of any other gradient; here that
    pass is a constant for such models.

    Several parts are computed one after the other, and again for the gradient, so that
    neither memory nor the size of the graph grows with their number.

    Args:
        model: The classifier.
        compute: Takes a function from images to logits and the number of a part, and
            returns a tensor made of the logits' gradients with respect to the images
            and of nothing else that depends on weights.
        start: What all parts are added to, of the shape of each.
        parts: Number of parts.

    Returns:
        The sum.

    Example:

    >>> from keras_advdef.objectives._double_backward import double_backward
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.array([[3.0, 4.0]]), np.zeros(2)])
    >>> def squared_slope(logits_fn, part):
    ...     images = tf.ones((1, 1))
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(images)
    ...         total = tf.reduce_sum(logits_fn(images))
    ...     return tape.gradient(total, images) ** 2
    >>> with tf.GradientTape() as tape:
    ...     value = double_backward(model, squared_slope, tf.zeros((1, 1)))
    >>> tape.gradient(value, model.trainable_weights)[0].numpy().tolist()
    [[14.0, 14.0]]
    """
    if is_piecewise_linear(model):
        weights = (tf.convert_to_tensor(each.value) for each in model.weights)
        return _by_products(model, compute, start, parts)(*weights)
    logits_fn = LogitsFunction(model)
    if parts == 1:
        return start + compute(logits_fn, 0)
    return _part_by_part(lambda part: compute(logits_fn, part), parts)(start)


def _by_products(
    model: keras.Model, compute: Callable[..., tf.Tensor], start: tf.Tensor, parts: int
) -> Callable[..., tf.Tensor]:
    """Returns the sum as a function of the weights that input gradients contain."""

    def recorded(
        part: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        # A loop would capture them while no tape records.
        weights = [tf.identity(each) for each in weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)

            def logits_fn(images: tf.Tensor) -> tf.Tensor:
                # Input gradients contain these tensors, which the tape watches.
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

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            zeros = [tf.zeros_like(each) for each in weights]
            return _summed(
                lambda part: recorded(part, weights)[1](upstream), zeros, parts
            )

        return total[0], gradient

    return only_part if parts == 1 else all_parts


def _part_by_part(
    compute: Callable[[tf.Tensor], tf.Tensor], parts: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that sums the parts, and computes them again for gradients."""

    @tf.custom_gradient
    def all_parts(start: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        total = _summed(lambda part: (compute(part),), (start,), parts)

        def gradient(
            upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()
        ) -> tuple[tf.Tensor, list[tf.Tensor]]:
            def gradients(part: tf.Tensor) -> list[tf.Tensor]:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(variables)
                    value = compute(part)
                return tape.gradient(value, variables, upstream, "zero")

            zeros = [tf.zeros_like(each) for each in variables]
            return upstream, list(_summed(gradients, zeros, parts))

        return total[0], gradient

    return all_parts


def _summed(
    compute: Callable[[tf.Tensor], Sequence[tf.Tensor]],
    start: Sequence[tf.Tensor],
    parts: int,
) -> tuple[tf.Tensor, ...]:
    def add(part: tf.Tensor, sums: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return tuple(a + b for a, b in zip(sums, compute(part), strict=True))

    return fixed_loop(add, tuple(start), parts, unroll=False)


def is_piecewise_linear(model: keras.Model) -> bool:
    """Returns whether a model is known to be piecewise linear in images and weights.

    Args:
        model: Any model.

    Returns:
        False also where nobody knows: for subclasses of Keras's layers, for half
        precision, and for `BatchNormalization`, which divides its weights.

    Example:

    >>> from keras_advdef.objectives._double_backward import is_piecewise_linear
    >>> layer = keras.layers.Dense(2, activation="relu")
    >>> is_piecewise_linear(keras.Sequential([keras.Input((2,)), layer]))
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
        if not (is_piecewise_linear(step) if has_graph(step) else _is_known(step)):
            return False
        open_tensors += inbound_tensors(tensor)
    return True


def _is_known(step: keras.Operation) -> bool:
    if type(step) is _LAYERS.Activation:
        return step.activation in _PIECEWISE
    if type(step) in _PLAIN:
        return step.compute_dtype == "float32"
    if type(step) not in _WEIGHTED:
        return False
    # Keras compiles convolutions of several groups, whose gradients do not contain the
    # weights they were called with.
    is_grouped = type(step) is _LAYERS.Conv2D and step.groups > 1
    return (
        not is_grouped
        and step.dtype_policy.name == "float32"
        and step.activation in _PIECEWISE
        # With a low-rank update the kernel is a sum.
        and isinstance(step.kernel, keras.Variable)
    )
