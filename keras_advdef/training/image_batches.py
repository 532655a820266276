"""Batches of images alone, as generators are trained on."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.value_range import ValueRange, checked_images


def check_images(owner: str, x: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises if what `fit` was given is known not to be images of a shape.

    Args:
        owner: Name of the class that trains.
        x: Array, `tf.data.Dataset` or whatever else Keras takes, which passes.
        image_shape: Rows, columns and channels.

    Raises:
        ValueError: If the shape is another one, or pixels of an array lie outside
            `[0, 1]`.
    """
    if isinstance(x, tf.data.Dataset):
        x = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
        fits = x.shape[1:].is_compatible_with(image_shape)
    elif isinstance(x, (np.ndarray, tf.Tensor)):
        fits = checked_images(owner, x, ValueRange()).shape[1:] == image_shape
    else:
        return
    if not fits:
        sizes = ", ".join(map(str, image_shape))
        rule = f"as the generator's, (batch, {sizes})"
        raise invalid(owner, "images", rule, x)


def images_of(data: Any, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns the float32 images of a batch, without labels.

    Args:
        data: What Keras hands to a training step.
        image_shape: Rows, columns and channels; a data set may not tell them.
    """
    images = tf.cast(keras.utils.unpack_x_y_sample_weight(data)[0], tf.float32)
    return tf.ensure_shape(images, (None, *image_shape))


def in_parts(images: tf.Tensor, count: int) -> tf.Tensor:
    """Returns a batch in parts of one size, `(count, size, ...)`.

    Args:
        images: Tensor `(batch, ...)`; its first ones come again at the end where the
            batch does not divide.
        count: Number of parts.
    """
    total = tf.shape(images)[0]
    size = (total + count - 1) // count
    places = tf.range(count * size) % total
    return tf.reshape(tf.gather(images, places), [count, size, *images.shape[1:]])
