"""certify_intervals: images whose class no perturbation of a size can change."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_choice, checked_integer, invalid
from keras_advdef.core.image_source import load_images
from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_net import IntervalNet
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.value_range import ValueRange, checked_epsilon
from keras_advdef.evaluation._certify.linear_relaxation import LinearRelaxation
from keras_advdef.evaluation.interval_certificates import IntervalCertificates

_OWNER = "certify_intervals"
# Half the distance from 1 to the next number.
_UNITS = {"float32": 2.0**-24, "float64": 2.0**-53}
# By this share of the range, float32 images may lie outside of an exact ball.
_ROUNDED = 2.0**-22


def certify_intervals(
    model: keras.Model,
    images: Any,
    labels: Any = None,
    *,
    epsilon: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    method: str = "ibp",
    batch_size: int = 128,
) -> IntervalCertificates:
    """Proves of images that no change of any pixel by epsilon changes their class.

    "ibp" takes boxes through the layers (Gowal et al. 2018, arXiv 1810.12715): fast,
    and tight only for models trained by `objectives.IntervalBounds`. "crown" takes
    lines back through ReLU and LeakyReLU (Zhang et al., NeurIPS 2018): tighter on all
    others, at a pass for each unit whose sign is open, so for models of up to some
    10 000 units.

    The bounds are computed in float64, and widened by all that rounding can do to the
    model's own float32 in any order of summation, so they hold for what the model
    returns; not for convolutions by fast Fourier or Winograd transforms, and not for
    bfloat16.

    Args:
        model: A built Sequential or functional model of layers that
            `core.interval_rule` knows: dense and convolutional layers, batch
            normalization, activations, pooling, merging and arranging layers. A softmax
            or sigmoid at the end is fine.
        images: Array `(count, rows, cols, channels)` in `value_range`; or a finite
            `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images and
            labels.
        labels: True labels, integer or one-hot; `None` if the data set holds them.
        epsilon: Largest change of a pixel, in the units of `value_range`.
        value_range: Pair `(low, high)`, the range of the pixels.
        method: "ibp" or "crown".
        batch_size: Images per computation.

    Returns:
        An `IntervalCertificates`.

    Raises:
        ValueError: If a layer has no rule or computes in half precision, or an argument
            does not fit.

    Example:

    >>> dense = keras.layers.Dense(2, kernel_initializer="identity")
    >>> model = keras.Sequential(
    ...     [keras.Input((2, 1, 1)), keras.layers.Flatten(), dense])
    >>> images = np.reshape([0.75, 0.25], (1, 2, 1, 1))
    >>> found = keras_advdef.evaluation.certify_intervals(
    ...     model, images, [0], epsilon=0.125)
    >>> found.certified, round(float(found.margins[0]), 4)
    (array([ True]), 0.25)
    """
    pixels = ValueRange.parse(_OWNER, value_range)
    radius = checked_epsilon(_OWNER, epsilon, pixels, norm="linf", low_open=True)
    checked_choice(_OWNER, "method", method, ("ibp", "crown"))
    size = checked_integer(_OWNER, "batch_size", batch_size, low=1)
    net = IntervalNet(_OWNER, model)
    images, labels, _ = load_images(_OWNER, images, labels)
    images = np.asarray(images)
    units = model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
    classes = checked_class_labels(
        _OWNER, labels, count=len(images), classes=units and max(2, units)
    )
    margins_of = functools.partial(_METHODS[method], net, unit=_unit(model))
    parts = []
    for start in range(0, len(images), size):
        batch = images[start : start + size].astype(np.float64)
        reach = radius + _ROUNDED * pixels.span
        box = Interval(
            *(
                tf.constant(np.clip(batch + side * reach, pixels.low, pixels.high))
                for side in (-1.0, 1.0)
            )
        )
        parts.append(_smallest(margins_of, box, classes[start : start + size]))
    margins = np.concatenate(parts) if parts else np.zeros(0)
    return IntervalCertificates(margins > 0.0, margins)


def _smallest(
    margins_of: Callable[..., tf.Tensor], box: Interval, labels: np.ndarray
) -> np.ndarray:
    """The smallest margin of each image over the other classes."""
    margins = margins_of(box, tf.constant(labels, tf.int64)).numpy()
    margins[np.arange(len(labels)), labels] = np.inf
    # NaN proves nothing.
    return np.where(np.isnan(margins), -np.inf, margins).min(axis=1)


def _by_boxes(
    net: IntervalNet, box: Interval, labels: tf.Tensor, *, unit: float
) -> tf.Tensor:
    return net.margins(box, labels, unit=unit)


def _by_lines(
    net: IntervalNet, box: Interval, labels: tf.Tensor, *, unit: float
) -> tf.Tensor:
    found = LinearRelaxation(net, box, unit=unit).margins(labels)
    return tf.maximum(found, _by_boxes(net, box, labels, unit=unit))


_METHODS = {"ibp": _by_boxes, "crown": _by_lines}


def _unit(model: keras.Model) -> float:
    """Returns the unit of the coarsest arithmetic in a model."""
    found = []
    for layer in flat_layers(model):
        dtype = layer.compute_dtype
        if dtype not in _UNITS and dtype is not None:
            rule = f"of float32 or float64 layers, but `{layer.name}` computes in "
            rule += dtype
            advice = "Rounding in half precision is larger than any margin."
            raise invalid(_OWNER, "model", rule, model, advice=advice)
        found.append(_UNITS[dtype or "float32"])
    return max(found)
