"""The cheapest seam through the overlap of two patches (Efros and Freeman 2001)."""

import tensorflow as tf

# More than any seam costs, and finite: with no width at all, every column is as bad.
_OUTSIDE = 1e30


def minimum_error_cut(errors: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """Returns in each row the column through which the cheapest seam runs.

    A seam has one pixel in each row, at most one column from that of the row before.
    Dynamic programming finds the cheapest; of equal ones the leftmost at each step
    back from the last row.

    Args:
        errors: Float32 tensor of shape `(seams, rows, cols, batch)`, not negative.
        widths: Float32 tensor of shape `(seams,)`: the seam stays in the first so
            many columns. Where it is 0 the result is 0.

    Returns:
        Float32 tensor of shape `(seams, rows, batch)`, whole numbers.

    Example:

    >>> errors = tf.constant([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])[None, :, :, None]
    >>> cut = keras_advdef.core.minimum_error_cut.minimum_error_cut
    >>> cut(errors, tf.constant([3.0])).numpy().ravel()
    array([1., 0.], dtype=float32)
    """
    columns = tf.range(float(errors.shape[2]))[:, None]
    inside = columns < widths[:, None, None]
    costs: list[tf.Tensor] = []
    for error in tf.unstack(errors, axis=1):
        cost = tf.where(inside, error, _OUTSIDE)
        costs.append(cost + _cheapest_before(costs[-1]) if costs else cost)
    seam = [_leftmost_cheapest(costs[-1])]
    for cost in costs[-2::-1]:
        near = tf.abs(columns - seam[-1][:, None]) <= 1.0
        seam.append(_leftmost_cheapest(tf.where(near, cost, float("inf"))))
    return tf.stack(seam[::-1], axis=1)


def _cheapest_before(cost: tf.Tensor) -> tf.Tensor:
    """Cheapest of the three columns above each one."""
    wide = tf.pad(cost, [[0, 0], [1, 1], [0, 0]], constant_values=float("inf"))
    return tf.minimum(tf.minimum(wide[:, :-2], cost), wide[:, 2:])


def _leftmost_cheapest(cost: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.argmin(cost, axis=1, output_type=tf.int32), tf.float32)
