"""Sizes, batches and channel order of images.

A graph may learn a size only when it runs; the functions below return a Python number
where it is known before.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_choice

_FORMATS = ("channels_last", "channels_first")
# The last images run in batches of the full size or of three halvings, so a model is
# traced at most four times.
_BLOCK_SIZES = 4


def value_count(images: tf.Tensor) -> float | tf.Tensor:
    """Returns how many values an image of a batch has.

    Args:
        images: Tensor of shape `(batch, ...)`.

    Returns:
        A Python float if the shape is known, else a float32 scalar.

    Example:

    >>> keras_advdef.core.image_layout.value_count(tf.zeros((5, 4, 4, 3)))
    48.0
    """
    count = images.shape[1:].num_elements()
    if count is not None:
        return float(count)
    return tf.cast(tf.reduce_prod(tf.shape(images)[1:]), tf.float32)


def rows_and_cols(
    images: tf.Tensor,
) -> tuple[float | tf.Tensor, float | tf.Tensor]:
    """Returns the height and width of images.

    Args:
        images: Tensor of shape `(batch, rows, cols, channels)`.

    Returns:
        Two Python floats if both are known, else float32 scalars.

    Example:

    >>> keras_advdef.core.image_layout.rows_and_cols(tf.zeros((5, 4, 6, 3)))
    (4.0, 6.0)
    """
    rows, cols = images.shape[1:3]
    if rows is not None and cols is not None:
        return float(rows), float(cols)
    rows, cols = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    return rows, cols


def flattened(images: tf.Tensor) -> tf.Tensor:
    """Returns images as vectors, with a static length if it is known.

    Args:
        images: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch, values)`.

    Example:

    >>> keras_advdef.core.image_layout.flattened(tf.zeros((5, 4, 4, 3))).shape
    TensorShape([5, 48])
    """
    count = images.shape[1:].num_elements()
    shape = [tf.shape(images)[0], -1] if count is None else [-1, count]
    return tf.reshape(images, shape)


_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def checked_data_format(owner: str, data_format: str | None = None) -> str:
    """Returns a data format, by default that of `keras.config.image_data_format`.

    Args:
        owner: Name of the class that takes it.
        data_format: "channels_last", "channels_first" or `None`.

    Raises:
        ValueError: If it is not one of these.

    Example:

    >>> keras_advdef.core.image_layout.checked_data_format("Layer")
    'channels_last'
    """
    if data_format is None:
        return keras.config.image_data_format()
    return checked_choice(owner, "data_format", data_format, _FORMATS)


def shape_channels_last(
    shape: Sequence[int | None], data_format: str
) -> tuple[int | None, ...]:
    """Returns a batch shape with the channels last.

    Args:
        shape: Shape of rank 4.
        data_format: Position of its channels.

    Example:

    >>> keras_advdef.core.image_layout.shape_channels_last(
    ...     (None, 3, 8, 9), "channels_first")
    (None, 8, 9, 3)
    """
    order = _TO_LAST if data_format == "channels_first" else range(4)
    return tuple(shape[axis] for axis in order)


def to_channels_last(images: tf.Tensor, data_format: str) -> tf.Tensor:
    """Returns images with the channels last.

    Args:
        images: Tensor of rank 4.
        data_format: Position of its channels.

    Example:

    >>> keras_advdef.core.image_layout.to_channels_last(
    ...     tf.zeros((1, 3, 8, 9)), "channels_first").shape
    TensorShape([1, 8, 9, 3])
    """
    is_last = data_format == "channels_last"
    return images if is_last else tf.transpose(images, _TO_LAST)


def from_channels_last(images: tf.Tensor, data_format: str) -> tf.Tensor:
    """Undoes `to_channels_last`.

    Args:
        images: Tensor of rank 4.
        data_format: Position of the channels of the result.

    Example:

    >>> keras_advdef.core.image_layout.from_channels_last(
    ...     tf.zeros((1, 8, 9, 3)), "channels_first").shape
    TensorShape([1, 3, 8, 9])
    """
    is_last = data_format == "channels_last"
    return images if is_last else tf.transpose(images, _FROM_LAST)


def pad_rows(array: np.ndarray, size: int) -> np.ndarray:
    """Returns an array with rows repeated from the front until there are `size`.

    Args:
        array: The rows.
        size: Number of rows of the result, at least `len(array)`.

    Example:

    >>> keras_advdef.core.image_layout.pad_rows(np.array([1, 2]), 3)
    array([1, 2, 1])
    """
    return array if len(array) == size else np.resize(array, (size, *array.shape[1:]))


def block_size(rows: int, full: int) -> int:
    """Returns the smallest compiled batch size that holds so many rows.

    Args:
        rows: Number of rows left.
        full: The largest batch size, at least `rows`.

    Example:

    >>> from keras_advdef.core.image_layout import block_size
    >>> block_size(20, 128), block_size(3, 128)
    (32, 16)
    """
    halvings = [full >> shift for shift in range(_BLOCK_SIZES)]
    return min(each for each in halvings if each >= rows)
