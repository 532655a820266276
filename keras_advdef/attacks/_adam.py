"""One step of Adam, for attacks that optimise something other than pixels."""

import tensorflow as tf

_MEAN, _SQUARE, _GUARD = 0.9, 0.999, 1e-8


def adam(
    gradient: tf.Tensor,
    moments: tuple[tf.Tensor, tf.Tensor],
    *,
    taken: tf.Tensor,
    learning_rate: float | tf.Tensor,
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Returns the step to subtract, and the new moments (Kingma and Ba 2015).

    Args:
        gradient: Gradient at the point.
        moments: Running means of gradients and of their squares, zero at first.
        taken: Steps taken before, float32.
        learning_rate: Length of a step under a constant gradient.

    Returns:
        The step and the moments, all of the gradient's shape.

    Example:

    >>> zero = tf.zeros(2)
    >>> step, _ = keras_advdef.attacks._adam.adam(
    ...     tf.constant([5.0, -0.1]), (zero, zero), taken=0.0, learning_rate=0.5)
    >>> step.numpy().round(4)
    array([ 0.5, -0.5], dtype=float32)
    """
    mean = _MEAN * moments[0] + (1.0 - _MEAN) * gradient
    square = _SQUARE * moments[1] + (1.0 - _SQUARE) * tf.square(gradient)
    size = adam_size(square, taken=taken)
    step = learning_rate * mean / (1.0 - _MEAN ** (taken + 1.0)) / size
    return step, (mean, square)


def adam_size(square: tf.Tensor, *, taken: tf.Tensor) -> tf.Tensor:
    """Returns how large gradients have been: what Adam divides its steps by.

    Args:
        square: Running mean of the squares, the second moment of `adam`.
        taken: Steps taken before the one that gave it, float32.

    Returns:
        Tensor of the same shape, above 0.

    Example:

    >>> keras_advdef.attacks._adam.adam_size(
    ...     tf.constant([0.001]), taken=0.0).numpy().round(4)
    array([1.], dtype=float32)
    """
    return tf.sqrt(square / (1.0 - _SQUARE ** (taken + 1.0))) + _GUARD
