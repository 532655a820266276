"""OneHiddenLayer: the matrices of a net with one hidden layer."""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import has_graph
from keras_advdef.evaluation._certify.lipschitz_bound import EXACT

# The public function that is called.
OWNER = "certify_cross_lipschitz"
_Slope = Callable[[np.ndarray], np.ndarray]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    # Imported here, or whatever loads the package would wait for it.
    from scipy.special import expit

    return expit(z)


# Activations with a nonnegative, nondecreasing slope, and that slope.
_SLOPES: dict[Callable[..., object], _Slope] = {
    keras.activations.softplus: _sigmoid,
    keras.activations.elu: lambda z: np.exp(np.minimum(z, 0.0)),
    keras.activations.exponential: np.exp,
    # The limit of steeper and steeper softplus.
    keras.activations.relu: lambda z: (z >= 0.0).astype(np.float64),
}


class OneHiddenLayer(NamedTuple):
    """`last.T @ activation(first.T @ x + bias)`, up to a constant.

    Args:
        first: Weights of the hidden units, `(pixels, units)`.
        bias: Biases of the hidden units, `(units,)`.
        slope: The activation's derivative.
        last: Weights of the logits, `(units, classes)`.
    """

    first: np.ndarray
    bias: np.ndarray
    slope: _Slope
    last: np.ndarray


class _Affine(NamedTuple):
    """The map `gain * (x @ matrix) + shift`; without a matrix, `gain * x + shift`."""

    matrix: np.ndarray | None
    gain: float
    shift: np.ndarray | float

    def behind(self, kernel: np.ndarray, bias: np.ndarray | float) -> "_Affine":
        """Returns the map followed by a dense layer."""
        matrix = kernel if self.matrix is None else self.matrix @ kernel
        shift = np.broadcast_to(self.shift, len(kernel)) @ kernel + bias
        return _Affine(matrix, self.gain, shift)

    def scaled(self, scale: float, offset: float) -> "_Affine":
        """Returns the map followed by a rescaling."""
        return _Affine(self.matrix, self.gain * scale, self.shift * scale + offset)


_IDENTITY = _Affine(None, 1.0, 0.0)


def taken_apart(model: keras.Model) -> OneHiddenLayer:
    """Returns the matrices of a net, or raises if it has another form.

    Args:
        model: A built `keras.Sequential`.

    Raises:
        ValueError: If it is not such a net, in float32 and for images of a known size.

    Example:

    >>> from keras_advdef.evaluation._certify.one_hidden_layer import taken_apart
    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(8, activation="softplus"), keras.layers.Dense(3)])
    >>> net = taken_apart(model)
    >>> net.first.shape, net.bias.shape, net.last.shape
    ((4, 8), (8,), (8, 3))
    """
    if not isinstance(model, keras.Sequential) or not has_graph(model):
        raise invalid(OWNER, "model", "a built `keras.Sequential`", model)
    _check_exact(model)
    units = math.prod(model.input_shape[1:])
    affine, hidden = _IDENTITY, None
    for layer in model.layers:
        affine, units = _continued(layer, affine, units)
        slope = _slope(layer)
        if slope is None:
            continue
        if hidden is not None or affine.matrix is None:
            raise _another(layer)
        hidden, affine = (affine, slope), _IDENTITY
    if hidden is None:
        # A linear model has the same slopes everywhere.
        hidden, affine = (affine, np.ones_like), _IDENTITY
    (matrix, gain, shift), slope = hidden
    if matrix is None:
        raise invalid(OWNER, "model", "a net with a `Dense` layer", model)
    last = np.eye(matrix.shape[1]) if affine.matrix is None else affine.matrix
    bias = np.broadcast_to(shift, matrix.shape[1])
    return OneHiddenLayer(gain * matrix, bias, slope, affine.gain * last)


def _check_exact(model: keras.Sequential) -> None:
    shape = model.input_shape[1:]
    if None in shape:
        raise invalid(OWNER, "model", "a net of images of a known size", shape)
    for layer in model.layers:
        if layer.compute_dtype not in EXACT:
            rule = "a net of float32; rounding in half precision exceeds the radii"
            raise invalid(OWNER, "model", rule, layer.dtype_policy.name)


def _continued(
    layer: keras.layers.Layer, affine: _Affine, units: int
) -> tuple[_Affine, int]:
    """Returns the map followed by a layer without its activation, and its size."""
    kind = type(layer)
    if kind is keras.layers.Dense and units == layer.kernel.shape[0]:
        bias = 0.0 if layer.bias is None else _float64(layer.bias)
        return affine.behind(_float64(layer.kernel), bias), layer.units
    if kind is keras.layers.Rescaling and np.ndim(layer.scale) == 0:
        return affine.scaled(layer.scale, layer.offset), units
    if kind in (keras.layers.Flatten, keras.layers.Activation):
        return affine, units
    if kind is keras.layers.ReLU and _slope(layer) is not None:
        return affine, units
    raise _another(layer)


def _float64(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _slope(layer: keras.layers.Layer) -> _Slope | None:
    """Returns the slope of a layer's activation, `None` if it has none."""
    if isinstance(layer, keras.layers.ReLU):
        is_plain = not (layer.threshold or layer.negative_slope or layer.max_value)
        if is_plain:
            return _SLOPES[keras.activations.relu]
        raise _another(layer)
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation is keras.activations.linear:
        return None
    if activation not in _SLOPES:
        raise _another(layer)
    return _SLOPES[activation]


def _another(layer: keras.layers.Layer) -> ValueError:
    rule = "a net of one hidden layer with a nondecreasing slope; "
    rule += f"`{layer.name}` does not fit"
    advice = "See `certify_lipschitz_margin` for deeper nets."
    return invalid(OWNER, "model", rule, layer, advice=advice)
