"""A uniform sample of the patches of a stream of images, in bounded memory."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class _Sample(NamedTuple):
    """Patches with the keys by which they were drawn, in the order of the stream."""

    keys: np.ndarray
    patches: np.ndarray

    def with_smallest_keys(self, count: int) -> "_Sample":
        if len(self.keys) <= count:
            return self
        kept = np.sort(np.argpartition(self.keys, count - 1)[:count])
        return _Sample(self.keys[kept], self.patches[kept])


def sample_patches(
    batches: Iterable[np.ndarray], patch_size: int, most: int, seed: int
) -> np.ndarray:
    """Returns patches from all places of all images, or a uniform sample of them.

    Every place draws a random key, and those with the smallest keys are kept: a
    uniform sample without replacement, in one pass and the same however the images
    are batched. Patches keep the order of images, rows and columns.

    Args:
        batches: Float32 arrays of shape `(count, rows, cols, channels)`, of whatever
            size, with the same channels.
        patch_size: Side of a patch, at most the images'.
        most: Most patches to return; at times twice as many are held.
        seed: Integer that starts the draws.

    Returns:
        Float32 array of shape `(patches, patch_size * patch_size * channels)`.

    Example:

    >>> images = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)
    >>> keras_advdef.core.patch_sample.sample_patches([images], 2, most=9, seed=0)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]], dtype=float32)
    """
    generator = np.random.default_rng(seed)
    parts: list[_Sample] = []
    held, limit = 0, np.inf
    for batch in batches:
        parts.append(_part(batch, patch_size, most, limit, generator))
        held += len(parts[-1].keys)
        # Rarely, so that each patch is copied few times.
        if held > 2 * most:
            parts = [_joined(parts).with_smallest_keys(most)]
            held, limit = most, parts[0].keys.max()
    return _joined(parts).with_smallest_keys(most).patches


def _part(
    batch: np.ndarray,
    patch_size: int,
    most: int,
    limit: float,
    generator: np.random.Generator,
) -> _Sample:
    """What one batch adds: only patches whose keys can still be among the smallest."""
    windows = np.lib.stride_tricks.sliding_window_view(
        batch, (patch_size, patch_size), axis=(1, 2)
    )
    places = windows.shape[:3]
    keys = generator.random(places).ravel()
    kept = np.flatnonzero(keys < limit)
    if len(kept) > most:
        kept = np.sort(kept[np.argpartition(keys[kept], most - 1)[:most]])
    patches = windows[np.unravel_index(kept, places)].transpose(0, 2, 3, 1)
    patches = patches.reshape(len(kept), math.prod(windows.shape[3:]))
    return _Sample(keys[kept], patches)


def _joined(parts: list[_Sample]) -> _Sample:
    keys, patches = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _Sample(keys, patches)
