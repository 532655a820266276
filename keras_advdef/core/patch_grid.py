"""Overlapping square patches that cover an image of any size."""

import functools

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=64)
def patch_starts(size: int, patch_size: int, overlap: int) -> tuple[int, ...]:
    """Returns where the patches along one axis start, the last one flush with the end.

    Args:
        size: Pixels along the axis, at least `patch_size`.
        patch_size: Side of a patch.
        overlap: Pixels that neighbouring patches share, below `patch_size`; the last
            two may share more.

    Returns:
        Increasing integers from 0 to `size - patch_size`.

    Example:

    >>> keras_advdef.core.patch_grid.patch_starts(12, 5, 2)
    (0, 3, 6, 7)
    """
    last = size - patch_size
    return (*range(0, last, patch_size - overlap), last)


def grid_patches(images: tf.Tensor, patch_size: int, overlap: int) -> tf.Tensor:
    """Returns the patches that cover each image, row by row.

    Args:
        images: Tensor of shape `(batch, rows, cols, channels)`, all but the batch
            known.
        patch_size: Side of a patch, at most the image's.
        overlap: Pixels that neighbouring patches share.

    Returns:
        Tensor of shape `(batch, patches, patch_size * patch_size * channels)`.

    Example:

    >>> images = tf.reshape(tf.range(9.0), (1, 3, 3, 1))
    >>> grid_patches = keras_advdef.core.patch_grid.grid_patches
    >>> grid_patches(images, 2, 1)[0, 3].numpy()
    array([4., 5., 7., 8.], dtype=float32)
    """
    _, height, width, channels = images.shape
    tops, lefts = (
        np.array(patch_starts(size, patch_size, overlap)) for size in (height, width)
    )
    inside = np.arange(patch_size)
    bands = tf.gather(images, (tops[:, None] + inside).ravel(), axis=1)
    patches = tf.gather(bands, (lefts[:, None] + inside).ravel(), axis=2)
    shape = [-1, len(tops), patch_size, len(lefts), patch_size, channels]
    patches = tf.transpose(tf.reshape(patches, shape), [0, 1, 3, 2, 4, 5])
    return tf.reshape(
        patches, [-1, len(tops) * len(lefts), patch_size * patch_size * channels]
    )
