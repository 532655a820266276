"""Where the channels of images are, as Keras's layers have it."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.arguments import checked_choice

_FORMATS = ("channels_last", "channels_first")
_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def checked_data_format(owner: str, data_format: Any = None) -> str:
    """Returns a data format; for `None` that of `keras.config.image_data_format`.

    Args:
        owner: Name of the class that takes it.
        data_format: "channels_last", "channels_first" or `None`.

    Raises:
        ValueError: If it is none of these.

    Example:

    >>> keras_advdef.core.data_format.checked_data_format("Layer")
    'channels_last'
    """
    if data_format is None:
        return keras.config.image_data_format()
    return checked_choice(owner, "data_format", data_format, _FORMATS)


def shape_channels_last(shape: Any, data_format: str) -> tuple[Any, ...]:
    """Returns a batch's shape with the channels at its end.

    Args:
        shape: Shape of rank 4.
        data_format: Where its channels are.

    Example:

    >>> keras_advdef.core.data_format.shape_channels_last(
    ...     (None, 3, 8, 9), "channels_first")
    (None, 8, 9, 3)
    """
    order = _TO_LAST if data_format == "channels_first" else range(4)
    return tuple(shape[axis] for axis in order)


def to_channels_last(images: Any, data_format: str) -> Any:
    """Returns images with their channels at the end.

    Args:
        images: Tensor of rank 4.
        data_format: Where its channels are.

    Example:

    >>> keras_advdef.core.data_format.to_channels_last(
    ...     tf.zeros((1, 3, 8, 9)), "channels_first").shape
    TensorShape([1, 8, 9, 3])
    """
    is_last = data_format == "channels_last"
    return images if is_last else tf.transpose(images, _TO_LAST)


def from_channels_last(images: Any, data_format: str) -> Any:
    """Undoes `to_channels_last`.

    Args:
        images: Tensor of rank 4.
        data_format: Where its channels shall be.

    Example:

    >>> keras_advdef.core.data_format.from_channels_last(
    ...     tf.zeros((1, 8, 9, 3)), "channels_first").shape
    TensorShape([1, 3, 8, 9])
    """
    is_last = data_format == "channels_last"
    return images if is_last else tf.transpose(images, _FROM_LAST)
