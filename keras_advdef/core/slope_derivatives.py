"""Derivatives of slopes with respect to weights, without a pass that gives zeros."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import (
    has_graph,
    inbound_tensors,
    kept_losses,
    producer,
)
from keras_advdef.core.logits import LogitsFunction

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


def through_slopes(model: Any, compute: Callable[[Logits], tf.Tensor]) -> tf.Tensor:
    """Returns a function of a classifier's slopes, with derivatives by the weights.

    Where a model is linear in pieces, as with ReLU, its slopes depend on the weights
    only through the products that they are made of. Differentiated as a whole,
    TensorFlow sends zeros back through the pass that gave the logits, at the price of
    any other gradient; here that pass counts as constant then.

    Args:
        model: The classifier.
        compute: Takes a function from images to logits, and returns a tensor made of
            its derivatives by the images and of nothing else that depends on weights.

    Returns:
        What `compute` returned.

    Example:

    >>> from keras_advdef.core.slope_derivatives import through_slopes
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.array([[3.0, 4.0]]), np.zeros(2)])
    >>> def squared_slope(logits_fn):
    ...     images = tf.ones((1, 1))
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(images)
    ...         total = tf.reduce_sum(logits_fn(images))
    ...     return tape.gradient(total, images) ** 2
    >>> with tf.GradientTape() as tape:
    ...     value = through_slopes(model, squared_slope)
    >>> tape.gradient(value, model.trainable_weights)[0].numpy().tolist()
    [[14.0, 14.0]]
    """
    if not is_linear_in_pieces(model):
        return compute(LogitsFunction(model))

    @tf.custom_gradient
    def value_of(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)

            def logits_fn(images: tf.Tensor) -> tf.Tensor:
                # Slopes are made of these tensors, which the tape knows.
                given = zip(model.weights, weights, strict=True)
                scope = keras.StatelessScope(given)
                with kept_losses(model), scope, tape.stop_recording():
                    return model(images, training=False)

            value = compute(logits_fn)

        def gradient(upstream: tf.Tensor) -> Any:
            return tape.gradient(value, weights, upstream, "zero")

        return value, gradient

    return value_of(*(tf.convert_to_tensor(each.value) for each in model.weights))


def is_linear_in_pieces(model: keras.Model) -> bool:
    """Returns whether a model is known to be one, with weights that only multiply.

    Args:
        model: Any model.

    Returns:
        False also where it is not known: for subclasses of Keras's layers, half
        precision, and `BatchNormalization`, which divides its weights first.

    Example:

    >>> from keras_advdef.core.slope_derivatives import is_linear_in_pieces
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
