"""Planted perturbations: a corner of a ball that a linear classifier singles out.

After Zimmermann et al. 2022, "Increasing confidence in adversarial robustness
evaluations", NeurIPS.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.core.image_layout import flattened
from keras_advdef.core.norms import random_point, random_surface_point
from keras_advdef.core.random_numbers import fold_in, make_key, uniform
from keras_advdef.core.value_range import ValueRange

# Points of the inner ball, corners to choose from, and further points of the ball.
INNER, CORNERS, FURTHER = 120, 16, 64
# Radius of the inner ball, in epsilons.
_SHRUNK = 0.95
# Where between the inner points and the corner the classifier changes its mind. Of a
# random model both are means over draws, which differ from those of other draws.
_CLOSE, _CLOSE_OF_RANDOM = 0.999, 0.8
# Keeps the classifier from directions in which inner points hardly differ. With 0.001,
# attacks miss up to a fifth of the planted perturbations of honest nets; with 1, nets
# with the gradients of another one are found to be open, too.
_RIDGE = 0.03
_TINY = 1e-20


def draw_points(
    image: np.ndarray, *, epsilon: float, norm: str, pixels: ValueRange, seed: int
) -> np.ndarray:
    """Draws inner points of a ball, corners, further points, and adds the image itself.

    Args:
        image: The image in its middle, `(rows, cols, channels)`.
        epsilon: Its radius, in the units of the pixels.
        norm: Its norm.
        pixels: Range of the pixels.
        seed: Seed of the draws.

    Returns:
        Float32 images `(INNER + CORNERS + FURTHER + 1, rows, cols, channels)`.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._verdict.planted_points import draw_points
    >>> draw_points(np.full((4, 4, 1), 0.5), epsilon=0.1, norm="linf",
    ...             pixels=ValueRange(0.0, 1.0), seed=0).shape
    (201, 4, 4, 1)
    """
    unit = pixels.to_unit(tf.constant(image, tf.float32))[None]
    radius, key = epsilon / pixels.span, make_key(seed)
    inner, corners, further = (
        tf.repeat(unit, count, axis=0) for count in (INNER, CORNERS, FURTHER)
    )
    points = [
        random_point(fold_in(key, 0), inner, _SHRUNK * radius, norm),
        _corners(fold_in(key, 1), corners, radius, norm=norm),
        random_point(fold_in(key, 2), further, radius, norm),
        unit,
    ]
    return pixels.pixels_of(tf.concat(points, axis=0)).numpy()


def _corners(
    key: tf.Tensor, images: tf.Tensor, radius: float, *, norm: str
) -> tf.Tensor:
    """Points on the surface of the balls, far from their inner points."""
    if norm == "l2":
        return random_surface_point(key, images, radius, norm)
    draws = uniform(key, images.shape)
    if norm == "linf":
        return tf.clip_by_value(images + radius * tf.sign(draws - 0.5), 0.0, 1.0)
    # In l1, a few values that move to an end of their range.
    values, draws = flattened(images), flattened(draws)
    reach = tf.where(values > 0.5, 0.0, 1.0) - values
    order = tf.argsort(draws, axis=1)
    sizes = tf.gather(tf.abs(reach), order, batch_dims=1)
    before = tf.cumsum(sizes, axis=1, exclusive=True)
    spent = tf.clip_by_value(radius - before, 0.0, sizes)
    spent = tf.gather(spent, tf.argsort(order, axis=1), batch_dims=1)
    return images + tf.reshape(tf.sign(reach) * spent, images.shape)


class Planted(NamedTuple):
    """A linear classifier of features under which one corner stands alone.

    Attributes:
        slope: Its weights.
        offset: Its bias; its value is about -1 at the image, and above 0 at the corner.
        is_apart: Whether the corner is on one side and all inner points are on the
            other.
        by_chance: Share of the further points that are on the corner's side.
    """

    slope: np.ndarray
    offset: float
    is_apart: bool
    by_chance: float


def plant(features: np.ndarray, again: np.ndarray | None = None) -> Planted:
    """Chooses the corner that stands out most, and the classifier that singles it out.

    The classifier is a ridge discriminant: its slope is `(S / t + 0.03 I)**-1 (f - m)`
    for the mean m and the covariance S of the inner points, of trace t, and the
    features f of the corner.

    Args:
        features: Features of `draw_points`, `(INNER + CORNERS + FURTHER + 1, width)`.
        again: Of a random model, those of the corners on other draws: the corner that
            stands out most is one that was lucky.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._verdict.planted_points import draw_points, plant
    >>> points = draw_points(np.full((4, 4, 1), 0.5), epsilon=0.1, norm="linf",
    ...                      pixels=ValueRange(0.0, 1.0), seed=0)
    >>> planted = plant(points.reshape(len(points), -1))
    >>> planted.is_apart, planted.by_chance
    (True, 0.0)
    """
    groups = np.split(features.astype(np.float64), np.cumsum([INNER, CORNERS, FURTHER]))
    mean = groups[0].mean(axis=0)
    inner, corners, further, image = (group - mean for group in groups)
    size = np.sqrt(max((inner**2).sum() / INNER, _TINY))
    slopes = _discriminants(inner / size, corners / size)
    highest = (inner @ slopes).max(axis=0)
    reached = (corners * slopes.T).sum(axis=1)
    best = int(np.argmax((reached - highest) / (np.abs(reached) + _TINY)))
    # As precise as the attacked model.
    slope = slopes[:, best].astype(np.float32).astype(np.float64)
    corner = corners[best] if again is None else again[best] - mean
    low, high, clean = (inner @ slope).max(), corner @ slope, image[0] @ slope
    close = _CLOSE if again is None else _CLOSE_OF_RANDOM
    level = low + close * (high - low)
    scale = 1.0 / max(level - clean, _TINY)
    offset = -(level + mean @ slope) * scale
    return Planted(
        slope=slope * scale,
        offset=float(offset),
        is_apart=bool(high > low and level > clean and np.isfinite(offset)),
        by_chance=float((further @ slope > level).mean()),
    )


def _discriminants(inner: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The slope for each corner, `(width, corners)`, by the matrix of inner products.

    There are fewer inner points than values of most features.
    """
    gram = inner @ inner.T / len(inner) + _RIDGE * np.eye(len(inner))
    weights = np.linalg.solve(gram, inner @ corners.T / len(inner))
    return (corners.T - inner.T @ weights) / _RIDGE
