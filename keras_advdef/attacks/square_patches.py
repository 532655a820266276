"""The patches of the Square attack in l2: two bumps, one up and one down."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def patch(side: int) -> np.ndarray:
    """Returns two bumps, one up and one down, that fill a square; of l2 norm one.

    At Chebyshev distance d from its center a bump is as high as the sum of `1 / j**2`
    over `j > d`, up to the square's edge (Andriushchenko et al. 2020).

    Args:
        side: Side of the square, at least 1.

    Returns:
        Array of shape `(side, side)`.

    Example:

    >>> keras_advdef.attacks.square_patches.patch(3).round(2).tolist()
    [[0.14, 0.68, 0.14], [-0.13, -0.13, -0.13], [-0.13, -0.65, -0.13]]
    """
    up, down = bump_factors(side)
    upper, lower = _bump(side // 2, side), _bump(side - side // 2, side)
    return np.concatenate([up * upper, down * lower])


def bump_factors(side: int) -> tuple[float, float]:
    """Returns the factors that make both bumps equally long and the patch's norm one.

    Args:
        side: Side of the square, at least 1.

    Returns:
        The upper bump's factor, which is not negative, and the lower one's, which is.

    Example:

    >>> keras_advdef.attacks.square_patches.bump_factors(1)
    (0.0, -1.0)
    """
    halves = side // 2, side - side // 2
    norms = [float(np.linalg.norm(_bump(rows, side))) for rows in halves]
    share = 1.0 / math.sqrt(sum(norm > 0 for norm in norms))
    up, down = (share / norm if norm else 0.0 for norm in norms)
    return up, -down


def _bump(rows: int, cols: int) -> np.ndarray:
    terms = 1.0 / np.arange(1, cols // 2 + 2) ** 2
    heights = np.cumsum(terms[::-1])[::-1]
    down = np.abs(np.arange(rows) - rows // 2)[:, None]
    along = np.abs(np.arange(cols) - cols // 2)
    return heights[np.maximum(down, along)]


def bumps(
    down: tf.Tensor,
    along: tf.Tensor,
    *,
    side: tf.Tensor,
    factors: Sequence[tf.Tensor],
    is_turned: tf.Tensor,
) -> tf.Tensor:
    """Returns images that hold a patch, or its transpose, and zeros around it.

    A height falls with the larger of two distances, so it is the smaller of the
    heights for each alone, and no table of pixels is needed.

    Args:
        down: Each row's place in the patch, outside too, `(batch, rows)`.
        along: Each column's place in the patch, `(batch, cols)`.
        side: Odd sides of the patches, `(batch, 1)` or `(1, 1)`.
        factors: What `bump_factors` returns for the sides, of the same shape.
        is_turned: Whether to transpose, `(batch, 1)`.

    Returns:
        Float32 tensor of shape `(batch, rows, cols, 1)`.

    Example:

    >>> places = tf.constant([[0.0, 1.0, 2.0]])
    >>> side, factors = tf.constant([[3.0]]), tf.constant([[[1.0]], [[-1.0]]])
    >>> keras_advdef.attacks.square_patches.bumps(
    ...     places, places, side=side, factors=factors, is_turned=tf.constant([[False]])
    ... ).numpy().round(2)[0, :, :, 0].tolist()
    [[0.25, 1.25, 0.25], [-0.25, -0.25, -0.25], [-0.25, -1.25, -0.25]]
    """
    height, factor = _profile(down, side, factors, ~is_turned)
    other_height, other_factor = _profile(along, side, factors, is_turned)
    height = tf.minimum(height[:, :, None], other_height[:, None])
    return (height * factor[:, :, None] * other_factor[:, None])[..., None]


def _profile(
    places: tf.Tensor,
    side: tf.Tensor,
    factors: Sequence[tf.Tensor],
    is_split: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns heights along one axis, and the factor of the bump each pixel is in."""
    middle = tf.floor(0.5 * side)
    length = tf.where(is_split, middle, side)
    is_first = places < length
    second = length + tf.floor(0.5 * (side - length))
    center = tf.where(is_first, tf.floor(0.5 * length), second)
    distance = tf.minimum(tf.abs(places - center), middle)
    # The terms up to the edge less those up to the distance.
    terms = 1.0 / np.arange(1, places.shape[1] + 2) ** 2
    sums = np.concatenate([[0.0], np.cumsum(terms)]).astype("float32")
    height = _look_up(sums, middle + 1.0) - _look_up(sums, distance)
    is_inside = (places >= 0.0) & (places < side)
    factor = tf.where(is_first, *factors)
    return tf.where(is_inside, height, 0.0), tf.where(is_split, factor, 1.0)


def _look_up(table: np.ndarray, places: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.constant(table), tf.cast(places, tf.int32))
