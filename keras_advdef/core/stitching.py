"""Joins overlapping patches to images, along seams of least error."""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.core.minimum_error_cut import minimum_error_cut
from keras_advdef.core.patch_grid import patch_starts


class _Schedule(NamedTuple):
    """Which patch is joined when, and where the pixels under it come from.

    A patch needs those before it in its row and those above. Patch `c` of row `r` is
    therefore joined in step `c + skew * r`, together with one patch of other rows: far
    fewer steps than patches. `lanes` are the patches of one step.

    Args:
        patches: Number of the patch, `(steps, lanes)`.
        sources: Where each of its pixels is found among the pixels of the last `skew`
            steps, the latest first: `(steps, lanes, pixels)`.
        widths: Columns it shares with the patch to its left and rows it shares with
            those above, `(steps, 2, lanes)`.
        final: Where each pixel of the image is found among those of all steps.
        skew: Steps between the starts of two rows.
        most: Largest of the widths, or 1.
    """

    patches: np.ndarray
    sources: np.ndarray
    widths: np.ndarray
    final: np.ndarray
    skew: int
    most: int


@functools.lru_cache(maxsize=16)
def _schedule(height: int, width: int, patch_size: int, overlap: int) -> _Schedule:
    tops, lefts = (
        np.array(patch_starts(size, patch_size, overlap)) for size in (height, width)
    )
    gaps = lefts - lefts[:, None]
    skew = 1 + int(((gaps > 0) & (gaps < patch_size)).sum(axis=1).max())
    steps = len(lefts) + skew * (len(tops) - 1)
    lanes = min(len(tops), -(-len(lefts) // skew))
    pixels = np.arange(patch_size**2).reshape(patch_size, patch_size)
    patches = np.zeros((steps, lanes))
    sources = np.zeros((steps, lanes, patch_size, patch_size))
    widths = np.zeros((steps, 2, lanes))
    # In which step and lane each pixel was joined last, as one number.
    latest = np.zeros((height, width))
    block = lanes * pixels.size
    shared = [
        np.append(0, starts[:-1] + patch_size - starts[1:]) for starts in (lefts, tops)
    ]
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            step = column + skew * row
            lane = row - max(0, -(-(step - len(lefts) + 1) // skew))
            window = np.s_[top : top + patch_size, left : left + patch_size]
            patches[step, lane] = row * len(lefts) + column
            under = latest[window]
            back = step - 1 - under // block
            known = (back >= 0) & (back < skew)
            sources[step, lane] = (back * block + under % block) * known
            widths[step, :, lane] = shared[0][column], shared[1][row]
            latest[window] = (step * lanes + lane) * pixels.size + pixels
    flat = sources.reshape(steps, lanes, -1)
    most = max(1, int(widths.max()))
    return _Schedule(patches, flat, widths, latest.ravel(), skew, most)


def stitch_patches(
    patches: tf.Tensor, shape: tuple[int, int, int], patch_size: int, overlap: int
) -> tf.Tensor:
    """Returns the images made of patches, as if pasted row by row.

    Where a patch meets what lies there already, a pixel is taken from the new patch
    on and beyond the cheapest seams, through the overlap on its left and through that
    above; the error of a pixel is the squared difference over all channels.

    Args:
        patches: Float32 tensor `(batch, patches, patch_size**2 * channels)` in the
            order of `grid_patches`.
        shape: Height, width and channels of the images.
        patch_size: Side of a patch.
        overlap: Pixels that neighbouring patches share.

    Returns:
        Float32 tensor of shape `(batch, *shape)`.

    Example:

    >>> images = tf.random.uniform((2, 9, 8, 3))
    >>> patches = keras_advdef.core.patch_grid.grid_patches(images, 5, 2)
    >>> bool(np.all(keras_advdef.core.stitching.stitch_patches(
    ...     patches, (9, 8, 3), 5, 2) == images))
    True
    """
    plan = _schedule(*shape[:2], patch_size, overlap)
    pixels, channels = patch_size**2, shape[2]
    # Images come last, the axis over which XLA vectorises.
    new = tf.reshape(patches, [tf.shape(patches)[0], -1, pixels, channels])
    new = tf.transpose(new, [1, 2, 3, 0])
    joined = tf.reshape(_joined(new, plan), [-1, channels, tf.shape(new)[3]])
    images = tf.gather(joined, tf.constant(plan.final, tf.int32))
    return tf.reshape(tf.transpose(images, [2, 0, 1]), [-1, *shape])


def _joined(new: tf.Tensor, plan: _Schedule) -> tf.Tensor:
    """All patches as they lie in the image after their step, by step and lane."""
    steps, lanes, pixels = plan.sources.shape
    shape = [lanes * pixels, new.shape[2], tf.shape(new)[3]]
    # Gathers by float tables: int32 arithmetic would run in host memory.
    tables = [
        tf.constant(table, tf.float32)
        for table in (plan.patches, plan.sources.reshape(steps, -1), plan.widths)
    ]

    def join(step: tf.Tensor, recent: tf.Tensor, done: tf.TensorArray) -> tuple:
        numbers, sources, widths = (tf.gather(table, step) for table in tables)
        block = tf.reshape(tf.gather(new, tf.cast(numbers, tf.int32)), shape)
        under = tf.gather(recent, tf.cast(sources, tf.int32))
        block = tf.where(_is_new(block, under, widths, plan.most), block, under)
        recent = tf.concat([block, recent[: -lanes * pixels]], axis=0)
        return step + 1, recent, done.write(step, block)

    _, _, done = tf.while_loop(
        lambda step, *_: step < steps,
        join,
        (
            tf.constant(0),
            tf.zeros([plan.skew * shape[0], *shape[1:]]),
            tf.TensorArray(tf.float32, steps, element_shape=[shape[0], shape[1], None]),
        ),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return done.stack()


def _is_new(
    block: tf.Tensor, under: tf.Tensor, widths: tf.Tensor, most: int
) -> tf.Tensor:
    """Whether each pixel lies on the new side of both seams."""
    lanes = widths.shape[1]
    side = math.isqrt(block.shape[0] // lanes)
    errors = tf.reduce_sum((block - under) ** 2, axis=1)
    errors = tf.reshape(errors, [lanes, side, side, tf.shape(block)[2]])
    above = tf.transpose(errors[:, :most], [0, 2, 1, 3])
    both = tf.concat([errors[:, :, :most], above], axis=0)
    seams = minimum_error_cut(both, tf.reshape(widths, [-1]))
    numbers = tf.range(float(side))[:, None]
    right = numbers >= seams[:lanes, :, None]
    below = numbers[:, None] >= seams[lanes:, None]
    return tf.reshape(right & below, [block.shape[0], 1, tf.shape(block)[2]])
