"""How boxes go through the layers of Keras."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core._interval_parts import Elementwise, Linear
from keras_advdef.core.interval import Interval
from keras_advdef.core.keras_private import ARITHMETIC_OPERATIONS

_LAYERS, _ACTIVATIONS = keras.layers, keras.activations

# Rising functions, by the function that a layer's `activation` is.
_RISING = (
    *("linear", "relu6", "elu", "selu", "softplus", "softsign", "sigmoid", "tanh"),
    *("exponential", "hard_sigmoid", "hard_tanh", "log_sigmoid", "celu"),
)
# Where functions that fall, then rise, are lowest.
_BENT = {
    _ACTIVATIONS.silu: -1.2784645427610738,
    _ACTIVATIONS.gelu: -0.7517915246935645,
    _ACTIVATIONS.mish: -1.1924312145,
}
RELU = Elementwise(_ACTIVATIONS.relu, slopes=(0.0, 1.0))
ACTIVATIONS: dict[Any, Elementwise] = {
    **{
        getattr(_ACTIVATIONS, name): Elementwise(getattr(_ACTIVATIONS, name))
        for name in _RISING
    },
    **{each: Elementwise(each, lowest=lowest) for each, lowest in _BENT.items()},
    _ACTIVATIONS.relu: RELU,
    _ACTIVATIONS.leaky_relu: Elementwise(_ACTIVATIONS.leaky_relu, slopes=(0.2, 1.0)),
}
# What these change at inference is nothing.
IDENTITIES = (
    *(_LAYERS.Dropout, _LAYERS.SpatialDropout1D, _LAYERS.SpatialDropout2D),
    *(_LAYERS.AlphaDropout, _LAYERS.GaussianDropout, _LAYERS.GaussianNoise),
    *(_LAYERS.ActivityRegularization, _LAYERS.Identity),
    *(_LAYERS.RandomFlip, _LAYERS.RandomTranslation, _LAYERS.RandomRotation),
    *(_LAYERS.RandomZoom, _LAYERS.RandomContrast, _LAYERS.RandomBrightness),
)
# These move values, and add none up.
_ARRANGING = (
    *(_LAYERS.Flatten, _LAYERS.Reshape, _LAYERS.Permute, _LAYERS.RepeatVector),
    *(_LAYERS.ZeroPadding1D, _LAYERS.ZeroPadding2D),
    *(_LAYERS.Cropping1D, _LAYERS.Cropping2D),
)
_MAXIMA = (
    *(_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D),
    *(_LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D),
)


def _arranged(layer: keras.layers.Layer) -> Linear:
    # `call` itself, since calling the layer would cast to its own dtype.
    return Linear(layer.call)


def _sum(layer: keras.layers.Layer) -> Linear:
    """Of layers that add their inputs up, or put them side by side."""

    def apply(*inputs: tf.Tensor) -> tf.Tensor:
        return layer.call(list(inputs))

    return Linear(apply, terms=len(layer._inbound_nodes[0].input_tensors))


def _rising_merge(layer: keras.layers.Layer) -> Callable[..., Interval]:
    """Of layers whose output no input can raise without raising it."""

    def rule(*boxes: Interval) -> Interval:
        ends = (layer.call([each[side] for each in boxes]) for side in (0, 1))
        return Interval(*ends)

    return rule


def _maximum(layer: keras.layers.Layer) -> Callable[[Interval], Interval]:
    return lambda box: Interval(layer.call(box.lower), layer.call(box.upper))


def _mean(layer: keras.layers.Layer) -> Linear:
    return Linear(layer.call, terms=math.prod(layer.pool_size))


def _global_mean(layer: keras.layers.Layer) -> Linear:
    return Linear(layer.call, terms=None)


def _dense(layer: keras.layers.Layer) -> Linear:
    return Linear(tf.linalg.matmul, layer.kernel, _bias(layer), layer.kernel.shape[0])


def _einsum(layer: keras.layers.Layer) -> Linear:
    def apply(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.einsum(layer.equation, inputs, kernel)

    terms = math.prod(layer.kernel.shape)
    return Linear(apply, layer.kernel, _bias(layer), terms)


def _convolution(layer: keras.layers.Layer) -> Linear:
    def apply(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.conv(
            inputs,
            kernel,
            strides=list(layer.strides),
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )

    terms = math.prod(layer.kernel.shape[:-1])
    return Linear(apply, layer.kernel, _channels(layer, layer.bias), terms)


def _by_channel(layer: keras.layers.Layer, kernel: Any) -> Linear:
    """A convolution of each channel by itself."""

    def apply(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.depthwise_conv(
            inputs,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )

    return Linear(apply, kernel, None, math.prod(kernel.shape[:2]))


def _depthwise(layer: keras.layers.Layer) -> Linear:
    found = _by_channel(layer, layer.kernel)
    offset = _channels(layer, layer.bias)
    return Linear(found.apply, found.kernel, offset, found.terms)


def _separable(layer: keras.layers.Layer) -> tuple[Linear, Linear]:
    def across(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        form = layer.data_format
        return keras.ops.conv(inputs, kernel, padding="valid", data_format=form)

    kernel = layer.pointwise_kernel
    offset = _channels(layer, layer.bias)
    second = Linear(across, kernel, offset, kernel.shape[-2])
    return _by_channel(layer, layer.depthwise_kernel), second


def _bias(layer: keras.layers.Layer) -> Any:
    return None if layer.bias is None else tf.convert_to_tensor(layer.bias)


def _channels(layer: keras.layers.Layer, values: Any) -> Any:
    """Values of the channels in a shape that broadcasts."""
    if values is None or layer.data_format == "channels_last":
        return None if values is None else tf.convert_to_tensor(values)
    return tf.reshape(values, (1, -1, *[1] * len(layer.kernel_size)))


def _scaled(inputs: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    return inputs * scale


def _batch_normalization(layer: keras.layers.Layer) -> Linear:
    deviation = tf.sqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    scale = 1.0 / deviation
    if layer.scale:
        scale = tf.convert_to_tensor(layer.gamma) * scale
    offset = -tf.convert_to_tensor(layer.moving_mean) * scale
    if layer.center:
        offset += tf.convert_to_tensor(layer.beta)
    shape = [1] * layer.input_spec.ndim
    shape[layer.axis] = -1
    return Linear(_scaled, tf.reshape(scale, shape), tf.reshape(offset, shape), 4)


def _rescaling(layer: keras.layers.Layer) -> Linear:
    return Linear(_scaled, tf.constant(layer.scale), tf.constant(layer.offset), 1)


def _normalization(layer: keras.layers.Layer) -> Linear:
    mean = tf.convert_to_tensor(layer.mean)
    deviation = tf.sqrt(tf.convert_to_tensor(layer.variance))
    deviation = tf.maximum(deviation, keras.config.epsilon())
    if layer.invert:
        return Linear(_scaled, deviation, mean, 2)
    return Linear(_scaled, 1.0 / deviation, -mean / deviation, 4)


def _rectifier(layer: keras.layers.Layer) -> Elementwise | None:
    slope, most = float(layer.negative_slope), getattr(layer, "max_value", None)
    threshold = float(getattr(layer, "threshold", 0.0))
    if slope < 0.0:
        return None
    is_bent_once = most is None and threshold == 0.0 and slope <= 1.0
    return Elementwise(layer.call, slopes=(slope, 1.0) if is_bent_once else None)


def _exponential(layer: keras.layers.Layer) -> Elementwise | None:
    return Elementwise(layer.call) if layer.alpha >= 0.0 else None


def _softmax(layer: Any) -> Callable[[Interval], Interval] | None:
    axis = getattr(layer, "axis", -1)
    return softmax_boxes if axis == -1 else None


def softmax_boxes(box: Interval) -> Interval:
    """Returns the smallest box of a softmax along the last axis.

    A share is largest where its own logit is and all others are smallest.

    Args:
        box: Of the logits.
    """
    own = tf.eye(box.lower.shape[-1], dtype=tf.bool)

    def share(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        least = others.dtype.min
        apart = tf.where(own, least, others[..., tf.newaxis, :])
        return tf.sigmoid(logits - tf.reduce_logsumexp(apart, axis=-1))

    return Interval(share(box.lower, box.upper), share(box.upper, box.lower))


def _log_softmax_boxes(box: Interval) -> Interval:
    return Interval(*map(tf.math.log, softmax_boxes(box)))


# What may stand at the end, where it changes no decision.
HEADS: dict[Any, Elementwise | Callable[[Interval], Interval]] = {
    _ACTIVATIONS.softmax: softmax_boxes,
    _ACTIVATIONS.log_softmax: _log_softmax_boxes,
    _ACTIVATIONS.sigmoid: ACTIVATIONS[_ACTIVATIONS.sigmoid],
}


def _difference(*given: tf.Tensor) -> tf.Tensor:
    """Of two inputs and their factors."""
    one, other, factors = given
    return factors[0] * one + factors[1] * other


def _product(layer: Any) -> Callable[..., Interval]:
    del layer

    def times(one: Interval, other: Interval) -> Interval:
        corners = [a * b for a in one for b in other]
        least = functools.reduce(tf.minimum, corners)
        return Interval(least, functools.reduce(tf.maximum, corners))

    return lambda *boxes: functools.reduce(times, boxes)


Rule = Callable[[Any], Any]
RULES: dict[type, Rule] = {
    _LAYERS.Dense: _dense,
    _LAYERS.EinsumDense: _einsum,
    _LAYERS.Conv1D: _convolution,
    _LAYERS.Conv2D: _convolution,
    _LAYERS.DepthwiseConv2D: _depthwise,
    _LAYERS.SeparableConv2D: _separable,
    _LAYERS.BatchNormalization: _batch_normalization,
    _LAYERS.Rescaling: _rescaling,
    _LAYERS.Normalization: _normalization,
    _LAYERS.AveragePooling1D: _mean,
    _LAYERS.AveragePooling2D: _mean,
    _LAYERS.GlobalAveragePooling1D: _global_mean,
    _LAYERS.GlobalAveragePooling2D: _global_mean,
    _LAYERS.ReLU: _rectifier,
    _LAYERS.LeakyReLU: _rectifier,
    _LAYERS.ELU: _exponential,
    _LAYERS.Softmax: _softmax,
    _LAYERS.Subtract: lambda layer: Linear(_difference, tf.constant([1.0, -1.0])),
    _LAYERS.Multiply: _product,
    **dict.fromkeys(_ARRANGING, _arranged),
    **dict.fromkeys(_MAXIMA, _maximum),
    **dict.fromkeys((_LAYERS.Add, _LAYERS.Average, _LAYERS.Concatenate), _sum),
    **dict.fromkeys((_LAYERS.Maximum, _LAYERS.Minimum), _rising_merge),
}


def constant_rule(operation: keras.Operation, given: list[Any]) -> Linear | None:
    """Returns the map of `keras.ops` arithmetic with one tensor and one constant.

    Args:
        operation: The operation.
        given: Its arguments in order; the tensor is a `keras.KerasTensor`.

    Returns:
        The map, or `None` for another operation.
    """
    name = ARITHMETIC_OPERATIONS.get(type(operation))
    if name is None or len(given) != 2:
        return None
    is_second = not isinstance(given[0], keras.KerasTensor)
    constant = tf.cast(tf.convert_to_tensor(given[0 if is_second else 1]), tf.float64)
    one = tf.ones((), tf.float64)
    factor, offset = {
        "add": (one, constant),
        "subtract": (-one, constant) if is_second else (one, -constant),
        "multiply": (constant, None),
        "divide": (None, None) if is_second else (one / constant, None),
    }[name]
    return None if factor is None else Linear(_scaled, factor, offset, 2)
