"""Sizes of images, which a graph may learn only when it runs."""

from typing import Any

import tensorflow as tf


def value_count(images: tf.Tensor) -> Any:
    """Returns how many values an image of a batch has.

    Args:
        images: Tensor of shape `(batch, ...)`.

    Returns:
        A Python float where the shape is known, else a float32 scalar.

    Example:

    >>> keras_advdef.core.image_size.value_count(tf.zeros((5, 4, 4, 3)))
    48.0
    """
    count = images.shape[1:].num_elements()
    if count is not None:
        return float(count)
    return tf.cast(tf.reduce_prod(tf.shape(images)[1:]), tf.float32)


def rows_and_cols(images: tf.Tensor) -> tuple[Any, Any]:
    """Returns the height and width of images.

    Args:
        images: Tensor of shape `(batch, rows, cols, channels)`.

    Returns:
        Two Python floats where they are known, else float32 scalars.

    Example:

    >>> keras_advdef.core.image_size.rows_and_cols(tf.zeros((5, 4, 6, 3)))
    (4.0, 6.0)
    """
    rows, cols = images.shape[1:3]
    if rows is not None and cols is not None:
        return float(rows), float(cols)
    rows, cols = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    return rows, cols


def flattened(images: tf.Tensor) -> tf.Tensor:
    """Returns images as vectors, of a known length where it is known.

    Args:
        images: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch, values)`.

    Example:

    >>> keras_advdef.core.image_size.flattened(tf.zeros((5, 4, 4, 3))).shape
    TensorShape([5, 48])
    """
    count = images.shape[1:].num_elements()
    shape = [tf.shape(images)[0], -1] if count is None else [-1, count]
    return tf.reshape(images, shape)
