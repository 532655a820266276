"""Nearest points of hyperplanes within the pixels' box `[0, 1]`."""

from typing import Any

import tensorflow as tf

from keras_advdef.core.image_layout import flattened
from keras_advdef.core.loops import fixed_loop

# Newton's steps end after a few; each adds at least one pixel to those at their bound.
_MOST_STEPS = 50
# A step that begins this near to its end, as a share of the way, is the last.
_CLOSE = 1e-5
# Large enough to bring every pixel to its bound, and finite: zero times it is zero.
_FURTHEST = 1e30
# 26 halvings bring the l1 threshold to float32 precision.
_BISECTIONS = 26


def project_on_hyperplane(
    points: tf.Tensor, weights: tf.Tensor, offsets: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the nearest points `z` in the box with `<weights, z> + offset = 0`.

    Where the box does not reach the hyperplane, every pixel of some weight is at the
    bound that comes nearest to it. Exact up to rounding (Croce and Hein 2020).

    Args:
        points: Float32 tensor of shape `(batch, ...)` in `[0, 1]`.
        weights: Normal of each hyperplane, same shape.
        offsets: Tensor of shape `(batch,)`.
        norm: "linf", "l2" or "l1", the distance that is smallest.

    Returns:
        Float32 tensor of the shape of `points`. Weights of zero move nothing.

    Example:

    >>> project = keras_advdef.attacks._hyperplanes.project_on_hyperplane
    >>> point, normal = tf.constant([[0.5, 0.5]]), tf.constant([[4.0, 3.0]])
    >>> for norm in ("linf", "l2", "l1"):
    ...     print(project(point, normal, tf.constant([-4.5]), norm).numpy().round(4))
    [[0.6429 0.6429]]
    [[0.66 0.62]]
    [[0.75 0.5 ]]
    """
    flat = flattened(points)
    weights = tf.reshape(weights, tf.shape(flat))
    value = tf.reduce_sum(weights * flat, 1, keepdims=True) + offsets[:, tf.newaxis]
    # The squares of tiny weights would underflow.
    largest = tf.reduce_max(tf.abs(weights), 1, keepdims=True)
    size = tf.math.divide_no_nan(tf.abs(weights), largest)
    way = tf.math.divide_no_nan(tf.abs(value), largest)
    direction = -tf.sign(value) * tf.sign(weights)
    room = tf.where(direction > 0, 1.0 - flat, flat)
    if norm == "l1":
        length = _greedy_lengths(size, room, way)
    else:
        slopes = size if norm == "linf" else tf.square(size)
        reach = _newton(slopes, size * room, way)
        length = tf.minimum(reach if norm == "linf" else reach * size, room)
    moved = tf.clip_by_value(flat + direction * length, 0.0, 1.0)
    return tf.reshape(moved, tf.shape(points))


def _newton(slopes: tf.Tensor, bounds: tf.Tensor, way: tf.Tensor) -> tf.Tensor:
    """Solves `sum min(t * slopes, bounds) = way` for t, `(batch, 1)`.

    The sum is concave and piecewise linear, so from zero Newton's steps never pass
    the solution and end on its piece; without a solution t becomes huge.
    """

    def step(reach: tf.Tensor, going: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gains = tf.minimum(reach * slopes, bounds)
        missing = way - tf.reduce_sum(gains, 1, keepdims=True)
        free = tf.where(gains < bounds, slopes, 0.0)
        slope = tf.reduce_sum(free, 1, keepdims=True)
        further = tf.where(slope > 0, reach + missing / slope, _FURTHEST)
        further = tf.clip_by_value(further, 0.0, _FURTHEST)
        return tf.where(going, further, reach), going & (missing > _CLOSE * way)

    return tf.while_loop(
        lambda reach, going: tf.reduce_any(going & (reach < _FURTHEST)),
        step,
        (tf.zeros_like(way), way > 0),
        parallel_iterations=1,
        maximum_iterations=_MOST_STEPS,
    )[0]


def _greedy_lengths(size: tf.Tensor, room: tf.Tensor, way: tf.Tensor) -> tf.Tensor:
    """Fills the pixels of the largest weights, the last of them only in part.

    Bisection finds the weight above which pixels are filled, which takes half the
    time of a sort; what lies between its bounds is equal up to rounding.
    """
    gains = size * room

    def above(threshold: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(size > threshold, gains, 0.0), 1, keepdims=True)

    def halve(index: Any, bracket: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        del index
        low, high = bracket
        middle = 0.5 * (low + high)
        enough = above(middle) >= way
        return tf.where(enough, middle, low), tf.where(enough, high, middle)

    bracket = tf.zeros_like(way), tf.ones_like(way)
    low, high = fixed_loop(halve, bracket, _BISECTIONS, unroll=False)
    filled = above(high)
    share = tf.math.divide_no_nan(way - filled, above(low) - filled)
    share = tf.clip_by_value(share, 0.0, 1.0)
    return room * tf.where(size > high, 1.0, tf.where(size > low, share, 0.0))
