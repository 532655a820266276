"""certify_cross_lipschitz: certified radii for nets with one hidden layer."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_advdef.core.image_source import load_images
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.evaluation._certify.one_hidden_layer import (
    OWNER,
    OneHiddenLayer,
    taken_apart,
)

# Halvings of the bracket around each radius; its lower end is returned.
_HALVINGS = 24
_BLOCK = 64
# The error of float32 logits, as a share of the largest one.
_ROUNDING = 2e-6
# The error of a difference of two float64 sums, as a share of the sums.
_DIFFERENCE = 1e-9
# Radii to try where the slope at an image is zero, up to a billion.
_FIRST_RADIUS, _DOUBLINGS = 1e-6, 50


class _Shape(NamedTuple):
    """Norms and inner products of the hidden units' weights.

    Args:
        lengths: Norm of each unit's weights.
        alike: The positive inner products, zero elsewhere.
        opposed: The negative inner products, zero elsewhere.
        largest: Largest eigenvalue of their absolute values.
    """

    lengths: np.ndarray
    alike: np.ndarray
    opposed: np.ndarray
    largest: float


def certify_cross_lipschitz(
    model: keras.Model, images: Any, labels: Any = None, *, batch_size: int = 128
) -> np.ndarray:
    """Returns l2 radii around images within which the prediction cannot change.

    For each other class, the slope of the logit difference in a ball is bounded from
    the signs of its summands. The certified radius is the one at which this slope
    times the radius reaches the logit difference (Hein, Andriushchenko, NIPS 2017,
    Theorem 2.1 and Proposition 2.2, p = 2). Exact for linear models.

    Args:
        model: A built Sequential model with one hidden layer that returns logits:
            `Flatten`, `Rescaling` and `Dense` layers with one softplus, ReLU, ELU or
            exponential between them. For a steeper softplus, put it between two
            `Rescaling` layers.
        images: Array `(count, rows, cols, channels)` in the model's value range; or a
            finite `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images
            and labels.
        labels: True labels, integer or one-hot; `None` if the data set holds them.
        batch_size: Images per prediction.

    Returns:
        Float64 array `(count,)`, in the units of the images; zero for misclassified
        images.

    Raises:
        ValueError: If the model has another form, or the labels do not fit.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(8, activation="softplus"), keras.layers.Dense(3)])
    >>> images, labels = np.ones((2, 2, 2, 1)), [0, 1]
    >>> keras_advdef.evaluation.certify_cross_lipschitz(model, images, labels).shape
    (2,)
    """
    net = taken_apart(model)
    images, labels, _ = load_images(OWNER, images, labels)
    images = np.asarray(images)
    logits = model.predict(images, batch_size=batch_size, verbose=0).astype(np.float64)
    count, known = logits.shape
    classes = checked_class_labels(OWNER, labels, count=count, classes=known)
    hidden = images.reshape(len(images), -1).astype(np.float64) @ net.first + net.bias
    products = net.first.T @ net.first
    shape = _Shape(
        np.sqrt(np.diag(products)),
        np.maximum(products, 0.0),
        np.minimum(products, 0.0),
        np.linalg.eigvalsh(np.abs(products))[-1],
    )
    blocks = [
        _radii(net, shape, hidden[rows], logits=logits[rows], classes=classes[rows])
        for rows in np.split(np.arange(len(images)), range(_BLOCK, len(images), _BLOCK))
    ]
    return np.concatenate(blocks)


def _radii(
    net: OneHiddenLayer,
    shape: _Shape,
    hidden: np.ndarray,
    *,
    logits: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    """Returns the radii of a block of images.

    Args:
        net: The net.
        shape: Norms and inner products of the hidden units' weights.
        hidden: Pre-activations, `(count, units)`.
        logits: Outputs of the net, `(count, classes)`.
        classes: True classes, `(count,)`.
    """
    everywhere = np.arange(len(classes))
    margins = logits[everywhere, classes][:, None] - logits
    rounding = _ROUNDING * np.abs(logits).max(axis=1)
    margins = np.where(margins > 0, np.maximum(margins - rounding[:, None], 0), margins)
    margins[everywhere, classes] = np.inf
    # The class with the smallest margin first: others seldom have smaller radii.
    order = np.argsort(margins, axis=1)[:, :-1]
    radii = np.full(len(classes), np.inf)

    def narrow(rows: np.ndarray, others: np.ndarray) -> None:
        margin = margins[rows, others]
        weights = net.last.T[classes[rows]] - net.last.T[others]
        steepest = _Steepest(net, shape, hidden[rows], weights)
        # An infinite radius is only a starting value and never counts as certified.
        limits = radii[rows]
        failed = np.flatnonzero(
            ~(np.isfinite(limits) & (_reach(limits, steepest) <= margin))
        )
        found = _bisected(steepest.of(failed), margin[failed], limits[failed])
        radii[rows[failed]] = found

    narrow(everywhere, order[:, 0])
    holds = _surely_holds(
        net, shape, hidden, radii=radii, margins=margins, classes=classes
    )
    left = [
        others[1:][~holds[row, others[1:]]] if radii[row] > 0 else others[:0]
        for row, others in enumerate(order)
    ]
    for step in range(max(map(len, left))):
        rows = np.array([row for row in everywhere if step < len(left[row])])
        rows = rows[radii[rows] > 0]
        narrow(rows, np.array([left[row][step] for row in rows], np.int64))
    return radii


def _surely_holds(
    net: OneHiddenLayer,
    shape: _Shape,
    hidden: np.ndarray,
    *,
    radii: np.ndarray,
    margins: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    """Returns for which classes a rough bound proves a radius, `(count, classes)`.

    The squared slope is at most a quadratic form of the absolute inner products. Their
    largest eigenvalue bounds this form for all classes at once.

    Args:
        net: The net.
        shape: Norms and inner products of the hidden units' weights.
        hidden: Pre-activations, `(count, units)`.
        radii: The radii, `(count,)`.
        margins: Differences of the logits, `(count, classes)`.
        classes: True classes, `(count,)`.
    """
    finite = np.where(np.isfinite(radii), radii, 0.0)
    own = net.last.T[classes]
    # A radius whose bound overflows is not proved.
    with np.errstate(over="ignore", invalid="ignore"):
        high = np.square(net.slope(hidden + finite[:, None] * shape.lengths))
        sizes = np.sum(high * np.square(own), axis=1)[:, None]
        sizes = sizes + high @ np.square(net.last)
        # Adds the rounding error of a difference of numbers of this size.
        lengths = sizes * (1.0 + _DIFFERENCE) - 2.0 * (high * own) @ net.last
        slopes = np.sqrt(shape.largest * np.maximum(lengths, 0.0))
        reached = finite[:, None] * slopes <= margins
    return np.isfinite(radii)[:, None] & reached


class _Steepest(NamedTuple):
    """Bounds the slope of one logit difference in balls around images."""

    net: OneHiddenLayer
    shape: _Shape
    hidden: np.ndarray
    weights: np.ndarray

    def of(self, rows: np.ndarray) -> "_Steepest":
        """Returns the bounds for some of the images."""
        return self._replace(hidden=self.hidden[rows], weights=self.weights[rows])

    def __call__(self, radius: np.ndarray) -> np.ndarray:
        """Returns the largest slope in each ball, `(count,)`."""
        reach = radius[:, None] * self.shape.lengths
        signs = self.shape.alike, self.shape.opposed
        high, low = (self.net.slope(self.hidden + sign * reach) for sign in (1, -1))
        up, down = self.weights * high, self.weights * low
        squares = _form(up, signs) + _form(down, signs[::-1])
        return np.sqrt(np.maximum(squares, 0.0))


def _reach(radii: np.ndarray, steepest: _Steepest) -> np.ndarray:
    finite = np.where(np.isfinite(radii), radii, 0.0)
    return finite * steepest(finite)


def _bisected(
    steepest: _Steepest, margins: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    """Bisects for the radius at which radius times slope reaches the margin.

    Args:
        steepest: Bounds of the slopes.
        margins: Differences of the logits, `(count,)`.
        limits: Upper limits of the radii, `(count,)`.
    """
    low = np.zeros(len(margins))
    # The bound is smallest at radius zero, which gives the largest possible radius.
    start = steepest(low)
    high = np.divide(
        np.maximum(margins, 0.0), start, out=np.full_like(low, np.inf), where=start > 0
    )
    high = np.minimum(high, limits)
    high, is_endless = _widened(steepest, margins, high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        holds = middle * steepest(middle) <= margins
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    low = np.where(is_endless, np.inf, low)
    return np.where(margins > 0, low, 0.0)


def _widened(
    steepest: _Steepest, margins: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns radii that are too large, and for which images there are none.

    Args:
        steepest: Bounds of the slopes.
        margins: Differences of the logits, `(count,)`.
        high: Radii known to be too large, else infinite, `(count,)`.
    """
    is_open = np.isinf(high)
    high = np.where(is_open, _FIRST_RADIUS, high)
    for _ in range(_DOUBLINGS):
        if not is_open.any():
            break
        # A radius whose bound overflows is too large.
        with np.errstate(over="ignore", invalid="ignore"):
            is_open &= high * steepest(high) <= margins
        high = np.where(is_open, 2.0 * high, high)
    return high, is_open


def _form(values: np.ndarray, signs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Sums the products of those pairs whose terms have the wanted sign, `(count,)`.

    Args:
        values: Weights times slopes, `(count, units)`.
        signs: Inner products of the wanted sign, and of the other sign.
    """
    up, down = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    same = np.sum((up @ signs[0]) * up + (down @ signs[0]) * down, axis=1)
    return same - 2.0 * np.sum((up @ signs[1]) * down, axis=1)
