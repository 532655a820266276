"""Masks of the pixels that an attack may change."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.image_layout import checked_data_format

_NEW, _ALL = None, slice(None)
# By the rank of a mask, how it may get the axes of images: as one image before all.
_READINGS: dict[str, dict[int, list[tuple[Any, ...]]]] = {
    "channels_last": {
        2: [(_NEW, _ALL, _ALL, _NEW)],
        3: [(_NEW, _ALL, _ALL, _ALL), (_ALL, _ALL, _ALL, _NEW)],
        4: [(_ALL, _ALL, _ALL, _ALL)],
    },
    "channels_first": {
        2: [(_NEW, _NEW, _ALL, _ALL)],
        3: [(_NEW, _ALL, _ALL, _ALL), (_ALL, _NEW, _ALL, _ALL)],
        4: [(_ALL, _ALL, _ALL, _ALL)],
    },
}
_CHANNEL_AXES = {"channels_last": 3, "channels_first": 1}


def checked_mask(owner: str, mask: Any, shape: tuple[int | None, ...]) -> Any:
    """Returns a mask with the axes of images, or raises.

    Args:
        owner: Name of the class that takes it.
        mask: Booleans, or zeros and ones: of one image, `(rows, cols)` or
            `(rows, cols, channels)`, or of each, with the number of images before. One
            channel stands for all. An array or a tensor; the values of a tensor in a
            graph cannot be checked.
        shape: Shape of the images with all axes; sizes may be unknown.

    Returns:
        Booleans that broadcast to the images, an array or, for a tensor in a graph, a
        tensor.

    Raises:
        ValueError: If it has another shape or other values.

    Example:

    >>> from keras_advdef.core.pixel_mask import checked_mask
    >>> checked_mask("PGD", [[1, 0], [0, 0]], (5, 2, 2, 3)).shape
    (1, 2, 2, 1)
    """
    in_graph = tf.is_tensor(mask) and not isinstance(mask, tf.__internal__.EagerTensor)
    values = mask if in_graph else np.asarray(mask)
    reading = _reading(tuple(values.shape), shape)
    is_truth = in_graph or (
        values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())
    )
    if reading is None or not is_truth:
        rows, cols = _plane(shape)
        rule = "booleans, or zeros and ones, for the pixels that may change: of shape "
        rule += f"({rows}, {cols}), or of that of one image, {tuple(shape[1:])}, or of "
        rule += f"all, {tuple(shape)}, where one channel may stand for all"
        raise invalid(owner, "mask", rule, mask)
    return tf.cast(values[reading], tf.bool) if in_graph else values[reading] != 0


def _plane(shape: tuple[int | None, ...]) -> list[int | None]:
    channels = _CHANNEL_AXES[checked_data_format("mask")]
    return [size for axis, size in enumerate(shape) if axis not in (0, channels)]


def _reading(found: tuple[Any, ...], shape: tuple[int | None, ...]) -> Any:
    """Returns the index that gives a mask the axes of images, `None` for no such."""
    data_format = checked_data_format("mask")
    broadcast = 0, _CHANNEL_AXES[data_format]
    for reading in _READINGS[data_format].get(len(found), []):
        sizes = iter(found)
        read = [1 if each is _NEW else next(sizes) for each in reading]
        pairs = enumerate(zip(read, shape, strict=True))
        if all(
            one == other or None in (one, other) or (one == 1 and axis in broadcast)
            for axis, (one, other) in pairs
        ):
            return reading
    return None
