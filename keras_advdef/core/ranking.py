"""The largest logits of each image, with gradients that run anywhere."""

import tensorflow as tf


def largest(logits: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Returns the largest values of each row, the largest first.

    The gradient of `tf.math.top_k` does its index arithmetic in host memory; that of a
    maximum does not.

    Args:
        logits: Float tensor of shape `(batch, classes)`.
        count: How many, at most the number of classes.

    Returns:
        `count` tensors of shape `(batch,)`.

    Example:

    >>> logits = tf.constant([[1.0, 5.0, 3.0]])
    >>> first, second = keras_advdef.core.ranking.largest(logits, 2)
    >>> float(first[0]), float(second[0])
    (5.0, 3.0)
    """
    values, rest = [], logits
    for _ in range(count):
        values.append(tf.reduce_max(rest, axis=-1))
        place = tf.argmax(rest, axis=-1)
        is_it = tf.one_hot(place, logits.shape[-1], on_value=True, off_value=False)
        rest = tf.where(is_it, logits.dtype.min, rest)
    return values
