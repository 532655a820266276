"""lipschitz_bound: an upper bound on a model's Lipschitz constant."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import has_graph, inbound_tensors, producer
from keras_advdef.layers import ConvexCombination, ParsevalConv2D
from keras_advdef.layers.parseval_conv2d import window_factor

_LAYERS = keras.layers
_ACTIVATIONS = keras.activations
# The largest slope of each function.
_SLOPES = {
    _ACTIVATIONS.linear: 1.0,
    _ACTIVATIONS.relu: 1.0,
    _ACTIVATIONS.relu6: 1.0,
    _ACTIVATIONS.leaky_relu: 1.0,
    _ACTIVATIONS.elu: 1.0,
    _ACTIVATIONS.softplus: 1.0,
    _ACTIVATIONS.softsign: 1.0,
    _ACTIVATIONS.tanh: 1.0,
    _ACTIVATIONS.sigmoid: 0.25,
}
# These rearrange values, or do nothing at inference.
_ISOMETRIES = (
    _LAYERS.Flatten,
    _LAYERS.Reshape,
    _LAYERS.Permute,
    _LAYERS.Dropout,
    _LAYERS.SpatialDropout2D,
    _LAYERS.GaussianNoise,
    _LAYERS.GaussianDropout,
    _LAYERS.ZeroPadding2D,
    _LAYERS.Cropping2D,
    _LAYERS.GlobalMaxPooling2D,
)
_CONVOLUTIONS = (
    _LAYERS.Conv2D,
    _LAYERS.DepthwiseConv2D,
    _LAYERS.Conv2DTranspose,
    ParsevalConv2D,
)
# In half precision, rounding errors exceed any bound.
EXACT = ("float32", "float64")


def lipschitz_bound(model: keras.Model, *, owner: str = "lipschitz_bound") -> float:
    """Returns L such that `||f(x) - f(y)||_2 <= L ||x - y||_2` for all images.

    L is the product of the layers' bounds, with sums or roots of sums of squares where
    branches meet (Szegedy et al. 2014; Cisse et al. 2017). A convolution is bounded by
    the largest singular value of its kernel matrix times the square root of the number
    of windows that contain a pixel, which is not its exact norm.

    Args:
        model: A built Sequential or functional model with one input and one output,
            made of dense and convolutional layers, pooling, known activations,
            rescaling, sums, means and concatenations.
        owner: Name of the caller, for messages.

    Returns:
        A number of at least 0.

    Raises:
        ValueError: If it has another layer, such as `BatchNormalization`.

    Example:

    >>> layer = keras.layers.Dense(2, kernel_initializer="orthogonal")
    >>> model = keras.Sequential([keras.Input((4,)), layer, keras.layers.ReLU()])
    >>> from keras_advdef.evaluation._certify.lipschitz_bound import lipschitz_bound
    >>> round(lipschitz_bound(model), 4)
    1.0
    """
    if not has_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        rule = "a built Sequential or functional model with one input and one output"
        raise invalid(owner, "model", rule, model)
    known = {id(model.inputs[0]): 1.0}

    def bound(tensor: keras.KerasTensor) -> float:
        if id(tensor) not in known:
            before = [bound(each) for each in inbound_tensors(tensor)]
            step = producer(tensor)
            known[id(tensor)] = _enlarged(step, before, owner)
        return known[id(tensor)]

    return bound(model.outputs[0])


def _enlarged(step: keras.Operation, before: list[float], owner: str) -> float:
    """The bound after a layer, given those of its inputs."""
    if has_graph(step):
        return lipschitz_bound(step, owner=owner) * before[0]
    for kinds, rule in _RULES:
        # A subclass may compute something else.
        if type(step) in kinds and step.compute_dtype in EXACT:
            found = rule(step, before)
            if found is not None:
                return found
    what = f"made of layers with a known Lipschitz constant, but `{step.name}` "
    what += f"({type(step).__name__}) has none"
    advice = "Normalization layers, half precision and discontinuous layers are not "
    advice += "supported."
    raise invalid(owner, "model", what, step, advice=advice)


def _spectral(matrices: np.ndarray) -> float:
    return float(np.linalg.svd(matrices, compute_uv=False).max())


def _matrix(kernel: keras.Variable) -> np.ndarray:
    values = np.asarray(keras.ops.convert_to_numpy(kernel), np.float64)
    return values.reshape(-1, values.shape[-1])


def _windows(
    size: Sequence[int], strides: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> int:
    """The largest number of windows that contain one pixel."""
    return math.prod(
        -(-extent // stride) if gap == 1 else extent
        for extent, stride, gap in zip(size, strides, dilation, strict=True)
    )


def _slope(layer: keras.layers.Layer) -> float | None:
    return _SLOPES.get(layer.activation)


def _dense(layer: keras.layers.Layer, before: list[float]) -> float | None:
    slope = _slope(layer)
    return slope and slope * before[0] * _spectral(_matrix(layer.kernel))


def _convolution(layer: keras.layers.Layer, before: list[float]) -> float | None:
    slope = _slope(layer)
    if slope is None:
        return None
    windows = _windows(layer.kernel_size, layer.strides, layer.dilation_rate)
    if isinstance(layer, _LAYERS.DepthwiseConv2D):
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float64)
        rows, columns, channels, multiplier = kernel.shape
        kernel = kernel.reshape(rows * columns, channels, multiplier)
        largest = _spectral(np.moveaxis(kernel, 1, 0))
    else:
        largest = _spectral(_matrix(layer.kernel))
    is_divided = isinstance(layer, ParsevalConv2D)
    factor = window_factor(layer.kernel_size) if is_divided else 1.0
    return slope * before[0] * factor * largest * math.sqrt(windows)


def _maximum(layer: keras.layers.Layer, before: list[float]) -> float:
    return before[0] * math.sqrt(_windows(layer.pool_size, layer.strides))


def _mean(layer: keras.layers.Layer, before: list[float]) -> float:
    size = math.prod(layer.pool_size) if layer.padding == "valid" else 1
    windows = _windows(layer.pool_size, layer.strides)
    return before[0] * math.sqrt(windows / size)


def _rescaling(layer: keras.layers.Layer, before: list[float]) -> float:
    return before[0] * float(np.abs(np.asarray(layer.scale)).max())


def _normalization(layer: keras.layers.Layer, before: list[float]) -> float:
    deviation = np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance)))
    return before[0] / float(np.maximum(deviation, keras.config.epsilon()).min())


def _rectifier(layer: keras.layers.Layer, before: list[float]) -> float | None:
    if getattr(layer, "threshold", 0.0):
        return None
    slope = getattr(layer, "negative_slope", 0.0)
    return before[0] * max(1.0, float(np.max(np.abs(slope))))


def _activation(layer: keras.layers.Layer, before: list[float]) -> float | None:
    slope = _slope(layer)
    return slope and slope * before[0]


def _concatenated(layer: keras.layers.Layer, before: list[float]) -> float:
    del layer
    return math.sqrt(sum(each**2 for each in before))


def _combined(layer: keras.layers.Layer, before: list[float]) -> float:
    return float(np.dot(keras.ops.convert_to_numpy(layer.shares), before))


_Rule = Callable[[keras.layers.Layer, list[float]], float | None]
_RULES: list[tuple[tuple[type, ...], _Rule]] = [
    ((_LAYERS.Dense,), _dense),
    (_CONVOLUTIONS, _convolution),
    ((_LAYERS.MaxPooling2D,), _maximum),
    ((_LAYERS.AveragePooling2D,), _mean),
    ((_LAYERS.GlobalAveragePooling2D,), lambda layer, before: before[0]),
    (_ISOMETRIES, lambda layer, before: before[0]),
    ((_LAYERS.Rescaling,), _rescaling),
    ((_LAYERS.Normalization,), _normalization),
    ((_LAYERS.ReLU, _LAYERS.LeakyReLU), _rectifier),
    ((_LAYERS.Activation,), _activation),
    ((_LAYERS.Add, _LAYERS.Subtract), lambda layer, before: sum(before)),
    ((_LAYERS.Average,), lambda layer, before: sum(before) / len(before)),
    ((_LAYERS.Concatenate,), _concatenated),
    ((ConvexCombination,), _combined),
]
