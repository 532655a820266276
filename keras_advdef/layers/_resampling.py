"""Resizing by two matrix products: any size per image, static shapes, gradients."""

import tensorflow as tf

METHODS = ("bilinear", "nearest")


def resize_matrix(
    sides: tf.Tensor, offsets: tf.Tensor, *, source: int, target: int, method: str
) -> tf.Tensor:
    """Returns matrices that resize `source` pixels and place them among `target`.

    Pixel centers are aligned as in `tf.image.resize` without antialiasing. Rows outside
    `[offset, offset + side)` are zero; all others sum to one.

    Args:
        sides: Size after resizing, whole numbers as float32, shape `(batch,)`.
        offsets: First filled row, whole numbers as float32, shape `(batch,)`.
        source: Number of pixels before resizing.
        target: Number of pixels after resizing, including padding.
        method: "bilinear" or "nearest".

    Returns:
        Float32 tensor of shape `(batch, target, source)`.

    Example:

    >>> keras_advdef.layers._resampling.resize_matrix(
    ...     tf.constant([2.0]), tf.constant([1.0]), source=2, target=3,
    ...     method="bilinear").numpy().tolist()
    [[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]
    """
    rows = tf.range(target, dtype=tf.float32)[tf.newaxis] - offsets[:, tf.newaxis]
    inside = (rows >= 0.0) & (rows < sides[:, tf.newaxis])
    position = (rows + 0.5) * (source / sides)[:, tf.newaxis]
    columns = tf.range(source, dtype=tf.float32)
    if method == "bilinear":
        position = tf.clip_by_value(position - 0.5, 0.0, source - 1.0)
        distance = tf.abs(position[..., tf.newaxis] - columns)
        weights = tf.maximum(0.0, 1.0 - distance)
    else:
        nearest = tf.clip_by_value(tf.floor(position), 0.0, source - 1.0)
        weights = tf.cast(nearest[..., tf.newaxis] == columns, tf.float32)
    return weights * tf.cast(inside, tf.float32)[..., tf.newaxis]


def apply_matrices(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Applies each image's own matrices to its rows and columns.

    Args:
        images: Float32 tensor of shape `(batch, height, width, channels)`.
        rows: Tensor of shape `(batch, new_height, height)`.
        columns: Tensor of shape `(batch, new_width, width)`.

    Returns:
        Tensor of shape `(batch, new_height, new_width, channels)`.

    Example:

    >>> eye = tf.eye(4)[tf.newaxis]
    >>> image = tf.reshape(tf.range(16.0), (1, 4, 4, 1))
    >>> same = keras_advdef.layers._resampling.apply_matrices(image, eye, eye)
    >>> bool(tf.reduce_all(same == image))
    True
    """
    images = tf.einsum("boh,bhwc->bowc", rows, images)
    return tf.einsum("bpw,bowc->bopc", columns, images)
