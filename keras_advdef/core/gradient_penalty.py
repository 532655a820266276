"""The gradient penalty of Wasserstein critics."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# The square root has no derivative at 0; at a smaller square the norm counts as 0.
_TINY = 1e-24


def gradient_penalty(critic: Callable[[Any], Any], points: tf.Tensor) -> tf.Tensor:
    """Returns how far the slope of a critic is from 1 at each point, squared.

    With the gradient of a point's score in that point, it is
    `(norm(gradient) - 1) ** 2`. The l2 norm runs over all axes but the first: rows,
    columns and channels together. Gradients with respect to the critic's weights pass.

    Args:
        critic: Function from points to one score each, `(batch, 1)` or `(batch,)`.
        points: Float32 tensor of shape `(batch, ...)`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    >>> points = tf.zeros((4, 2, 2, 1))
    >>> slope_of_four = lambda points: 2.0 * tf.reduce_sum(points, [1, 2, 3])
    >>> keras_advdef.core.gradient_penalty.gradient_penalty(slope_of_four, points)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([9., 9., 9., 9.],
    dtype=float32)>
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        # A point's score depends on no other point, so one sum serves them all.
        total = tf.reduce_sum(tf.cast(critic(points), tf.float32))
    gradients = tape.gradient(total, points)
    axes = list(range(1, points.shape.rank))
    squares = tf.reduce_sum(tf.square(gradients), axis=axes)
    return tf.square(tf.sqrt(tf.maximum(squares, _TINY)) - 1.0)
