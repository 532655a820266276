"""Total variation of images, and its minimization near given images."""

import tensorflow as tf

from keras_advdef.core.loops import fixed_loop

_ROWS, _COLUMNS = 1, 2
# Over-relaxation; the iteration converges below 2 (Condat 2013).
_RELAXATION = 1.8
# Product of the two step sizes: 1 over the largest squared norm of the differences.
_STEP_PRODUCT = 1 / 8
# Tuned on CIFAR-10 images for the smallest duality gap: tau = scale / (keep *
# weight**power), where keep is the share of kept pixels. Large weights move pixels far,
# which needs a lower bound on the step.
_STEP_SCALE, _STEP_POWER = 0.025, 0.7
_FLOOR_SCALE, _FLOOR_POWER = 0.07, 0.75
# Keeps the inverse of a difference of zero finite.
_TINY = 1e-30
# Passes of averaging that fill dropped pixels from their neighbours.
_FILLS = 4


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Returns the isotropic total variation, summed over channels.

    Each pixel adds the Euclidean norm of its differences to the next pixel below and
    to the right; a difference across the border is zero. Where both are zero, so is
    the gradient.

    Args:
        images: Float tensor of shape `(batch, rows, cols, channels)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> image = tf.reshape([0.0, 0.0, 3.0, 4.0], (1, 2, 2, 1))
    >>> tv = keras_advdef.layers._total_variation.total_variation(image)
    >>> round(float(tv[0]), 4)  # 3 and 4 down, 1 to the right in the last row
    8.0
    """
    down, right = _differences(images, _ROWS), _differences(images, _COLUMNS)
    squares = down**2 + right**2
    moves = squares > 0.0
    # The square root has no finite derivative at zero.
    norms = tf.where(moves, tf.sqrt(tf.where(moves, squares, 1.0)), 0.0)
    return tf.reduce_sum(norms, axis=(1, 2, 3))


def least_variation(
    images: tf.Tensor, mask: tf.Tensor, *, keep: float, weight: float, steps: int
) -> tf.Tensor:
    """Returns z that minimises `1/2 sum mask (z - images)^2 + weight * TV(z)`.

    This is the over-relaxed primal-dual iteration of Chambolle and Pock (2011). Dropped
    pixels start as averages of kept neighbours.

    Args:
        images: Float32 tensor of shape `(batch, rows, cols, channels)`.
        mask: The same shape: 1 keeps a pixel, 0 drops it.
        keep: Expected share of kept pixels, which sets the step size.
        weight: Weight of the total variation.
        steps: Number of iterations.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> pair = tf.reshape([0.2, 0.8], (1, 1, 2, 1))
    >>> near = keras_advdef.layers._total_variation.least_variation(
    ...     pair, tf.ones_like(pair), keep=1.0, weight=0.1, steps=100)
    >>> near.numpy().ravel().round(4)
    array([0.3, 0.7], dtype=float32)
    """
    tau = _step_size(keep, weight)
    sigma = _STEP_PRODUCT / tau
    share = 1.0 / (1.0 + tau * mask)
    pull = tau * mask * images * share

    def look_ahead(near: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Returns twice the primal step minus its start."""
        force = _adjoint(down, _ROWS) + _adjoint(right, _COLUMNS)
        return 2.0 * (share * (near - tau * force) + pull) - near

    def step(
        index: int | tf.Tensor, state: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        """Takes a dual step, relaxes all variables, and takes the next primal step.

        In this order, XLA reads all neighbours from memory and computes nothing twice.
        """
        del index
        near, ahead, down, right = state
        near += _RELAXATION * (0.5 * (near + ahead) - near)
        new_down = down + sigma * _differences(ahead, _ROWS)
        new_right = right + sigma * _differences(ahead, _COLUMNS)
        length = tf.math.rsqrt(new_down**2 + new_right**2 + _TINY)
        scale = tf.minimum(1.0, weight * length)
        down += _RELAXATION * (scale * new_down - down)
        right += _RELAXATION * (scale * new_right - right)
        return near, look_ahead(near, down, right), down, right

    zeros, start = tf.zeros_like(images), _filled(images, mask)
    state = start, look_ahead(start, zeros, zeros), zeros, zeros
    # XLA would fuse unrolled steps and compute each of them many times.
    near, ahead, *_ = fixed_loop(step, state, steps - 1, unroll=False)
    return 0.5 * (near + ahead)


def _step_size(keep: float, weight: float) -> float:
    """Returns the primal step size."""
    fitted = _STEP_SCALE / (keep * weight**_STEP_POWER)
    return max(fitted, _FLOOR_SCALE / keep**_FLOOR_POWER)


def _differences(images: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the next pixel minus this one, zero at the end."""
    size = images.shape[axis] - 1
    first, second = (_cut(images, axis, start, size) for start in (0, 1))
    return tf.pad(second - first, _padding(axis, 0, 1))


def _adjoint(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Applies the transpose of `_differences` to values that are zero at the end."""
    inner = _cut(values, axis, 0, values.shape[axis] - 1)
    return tf.pad(inner, _padding(axis, 1, 0)) - values


def _cut(images: tf.Tensor, axis: int, start: int, size: int) -> tf.Tensor:
    return images[(slice(None),) * axis + (slice(start, start + size),)]


def _padding(axis: int, before: int, after: int) -> list[list[int]]:
    return [[before, after] if each == axis else [0, 0] for each in range(4)]


def _filled(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the images with dropped pixels as averages of the nearest kept ones."""
    kept = tf.reduce_sum(mask, axis=(1, 2), keepdims=True)
    sums = tf.reduce_sum(mask * images, axis=(1, 2), keepdims=True)
    # If no pixel is kept, every constant image is a minimum.
    middle = tf.where(kept > 0.0, sums / tf.maximum(kept, 1.0), 0.5)
    values, known = mask * images, mask
    for _ in range(_FILLS):
        count = _neighbours(known)
        average = _neighbours(values) / tf.maximum(count, 1.0)
        values = tf.where(known > 0.0, values, average)
        known = tf.cast((known > 0.0) | (count > 0.0), images.dtype)
    return tf.where(known > 0.0, values, middle)


def _neighbours(values: tf.Tensor) -> tf.Tensor:
    """Returns sums over 3 x 3 pixels, zero beyond the border."""
    for axis in (_ROWS, _COLUMNS):
        padded = tf.pad(values, _padding(axis, 1, 1))
        size = values.shape[axis]
        values = tf.add_n([_cut(padded, axis, start, size) for start in range(3)])
    return values
