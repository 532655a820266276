"""Image quilting: patches of a grid, the search for the nearest, and the seams."""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=64)
def patch_starts(size: int, patch_size: int, overlap: int) -> tuple[int, ...]:
    """Returns where the patches along one axis start; the last one ends at the border.

    Args:
        size: Pixels along the axis, at least `patch_size`.
        patch_size: Side of a patch.
        overlap: Pixels that adjacent patches share, below `patch_size`; the last two
            may share more.

    Returns:
        Increasing integers from 0 to `size - patch_size`.

    Example:

    >>> keras_advdef.layers._quilting.patch_starts(12, 5, 2)
    (0, 3, 6, 7)
    """
    last = size - patch_size
    return (*range(0, last, patch_size - overlap), last)


def grid_patches(images: tf.Tensor, patch_size: int, overlap: int) -> tf.Tensor:
    """Returns the patches that cover each image, row by row.

    Args:
        images: Tensor of shape `(batch, rows, cols, channels)`, all but the batch size
            known.
        patch_size: Side of a patch, at most the image's.
        overlap: Pixels that adjacent patches share.

    Returns:
        Tensor of shape `(batch, patches, patch_size * patch_size * channels)`.

    Example:

    >>> images = tf.reshape(tf.range(9.0), (1, 3, 3, 1))
    >>> grid_patches = keras_advdef.layers._quilting.grid_patches
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


# More than any seam costs. It is finite so that a seam of width 0 has a result, too.
_OUTSIDE = 1e30


def minimum_error_cut(errors: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """Returns the column of the cheapest seam in each row.

    A seam has one pixel per row, at most one column away from that in the row before.
    Dynamic programming finds the cheapest seam, backward from the last row; ties go to
    the left.

    Args:
        errors: Float32 tensor of shape `(seams, rows, cols, batch)`, not negative.
        widths: Float32 tensor of shape `(seams,)`. A seam stays within that number of
            columns; for a width of 0 the result is 0.

    Returns:
        Float32 tensor of shape `(seams, rows, batch)`, whole numbers.

    Example:

    >>> errors = tf.constant([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])[None, :, :, None]
    >>> cut = keras_advdef.layers._quilting.minimum_error_cut
    >>> cut(errors, tf.constant([3.0])).numpy().ravel()
    array([1., 0.], dtype=float32)
    """
    columns = tf.range(float(errors.shape[2]))[:, None]
    inside = columns < widths[:, None, None]
    costs: list[tf.Tensor] = []
    for error in tf.unstack(errors, axis=1):
        cost = tf.where(inside, error, _OUTSIDE)
        costs.append(cost + _cheapest_before(costs[-1]) if costs else cost)
    seam = [_leftmost_cheapest(costs[-1])]
    for cost in costs[-2::-1]:
        near = tf.abs(columns - seam[-1][:, None]) <= 1.0
        seam.append(_leftmost_cheapest(tf.where(near, cost, float("inf"))))
    return tf.stack(seam[::-1], axis=1)


def _cheapest_before(cost: tf.Tensor) -> tf.Tensor:
    """Returns the cheapest of the three columns above each one."""
    wide = tf.pad(cost, [[0, 0], [1, 1], [0, 0]], constant_values=float("inf"))
    return tf.minimum(tf.minimum(wide[:, :-2], cost), wide[:, 2:])


def _leftmost_cheapest(cost: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.argmin(cost, axis=1, output_type=tf.int32), tf.float32)


class _Schedule(NamedTuple):
    """The step in which each patch is joined, and where the pixels under it come from.

    A patch depends on those to its left and above. Patch `c` of row `r` is therefore
    joined in step `c + skew * r`, in parallel with patches of other rows, so there are
    far fewer steps than patches. The patches of one step are its lanes.

    Args:
        patches: Number of the patch, `(steps, lanes)`.
        sources: Index of each pixel under it among the pixels of the last `skew` steps,
            latest step first, `(steps, lanes, pixels)`.
        widths: Columns it shares with the patch to its left, and rows it shares with
            those above, `(steps, 2, lanes)`.
        final: Index of each pixel of the image among the pixels of all steps.
        skew: Steps between the starts of two rows.
        most: Largest of the widths, at least 1.
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
    # The last step, lane and pixel that wrote each pixel of the image, as one number.
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

    Where a patch overlaps earlier ones, the cheapest seams through the overlaps on its
    left and above separate old pixels from new ones. Pixels on a seam are new. The cost
    of a pixel is the squared difference, summed over channels.

    Args:
        patches: Float32 tensor `(batch, patches, patch_size**2 * channels)` in the
            order of `grid_patches`.
        shape: Height, width and channels of the images.
        patch_size: Side of a patch.
        overlap: Pixels that adjacent patches share.

    Returns:
        Float32 tensor of shape `(batch, *shape)`.

    Example:

    >>> images = tf.random.uniform((2, 9, 8, 3))
    >>> patches = keras_advdef.layers._quilting.grid_patches(images, 5, 2)
    >>> bool(np.all(keras_advdef.layers._quilting.stitch_patches(
    ...     patches, (9, 8, 3), 5, 2) == images))
    True
    """
    plan = _schedule(*shape[:2], patch_size, overlap)
    pixels, channels = patch_size**2, shape[2]
    # The batch comes last, the axis over which XLA vectorises.
    new = tf.reshape(patches, [tf.shape(patches)[0], -1, pixels, channels])
    new = tf.transpose(new, [1, 2, 3, 0])
    joined = tf.reshape(_joined(new, plan), [-1, channels, tf.shape(new)[3]])
    images = tf.gather(joined, tf.constant(plan.final, tf.int32))
    return tf.reshape(tf.transpose(images, [2, 0, 1]), [-1, *shape])


def _joined(new: tf.Tensor, plan: _Schedule) -> tf.Tensor:
    """Returns all patches as they look in the image after their step."""
    steps, lanes, pixels = plan.sources.shape
    shape = [lanes * pixels, new.shape[2], tf.shape(new)[3]]
    # Float indices, since int32 arithmetic would run in host memory.
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
    """Returns whether each pixel is on the new side of both seams."""
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


class _Sample(NamedTuple):
    """Patches in the order of the stream, with the random keys that select them."""

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
    """Returns all patches of all images, or a uniform sample of them.

    Each patch gets a random key, and those with the smallest keys are kept: a uniform
    sample without replacement, in one pass, whatever the batch size. Patches keep the
    order of images, rows and columns.

    Args:
        batches: Float32 arrays of shape `(count, rows, cols, channels)`, of any size,
            all with the same channels.
        patch_size: Side of a patch, at most the images'.
        most: Maximum number of patches. At times twice as many are held in memory.
        seed: Integer seed of the draws.

    Returns:
        Float32 array of shape `(patches, patch_size * patch_size * channels)`.

    Example:

    >>> images = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)
    >>> keras_advdef.layers._quilting.sample_patches([images], 2, most=9, seed=0)
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
        # Only now and then, so that each patch is copied few times.
        if held > 2 * most:
            parts = [_united(parts).with_smallest_keys(most)]
            held, limit = most, parts[0].keys.max()
    return _united(parts).with_smallest_keys(most).patches


def _part(
    batch: np.ndarray,
    patch_size: int,
    most: int,
    limit: float,
    generator: np.random.Generator,
) -> _Sample:
    """Returns the patches of a batch whose keys may still be among the smallest."""
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


def _united(parts: list[_Sample]) -> _Sample:
    keys, patches = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _Sample(keys, patches)


# Distances between a chunk of queries and a chunk of the bank take 64 MB of float32.
_CHUNK_QUERIES = 512
_CHUNK_ROWS = 32768
# The k nearest rows are in the k groups with the smallest minima, so only those groups
# are sorted. Sorting all distances would cost more than computing them.
_GROUP = 16
# Matrix products are rounded, to TF32 on some GPUs, so this many extra candidates are
# compared by exact differences.
_SPARE = 6
# Row numbers are float32, because int32 arithmetic runs in host memory.
MOST_ROWS = 2**24
_MIDDLE = 0.5


def pick_nearest(
    queries: tf.Tensor, ranks: tf.Tensor, bank: tf.Tensor, neighbors: int
) -> tf.Tensor:
    """Returns the row of a bank that has the given rank among a query's neighbours.

    Distances are Euclidean; ties are broken arbitrarily. Apart from inputs and outputs,
    it needs memory for one chunk of distances, 64 MB, whatever the size of the bank.

    Args:
        queries: Float32 tensor of shape `(queries, features)`.
        ranks: Float32 tensor of shape `(queries,)`, whole numbers in
            `[0, neighbors)`; 0 for the nearest.
        bank: Float32 tensor of shape `(rows, features)`, with `neighbors` to
            `MOST_ROWS` rows.
        neighbors: Python integer of at least 1.

    Returns:
        Float32 tensor of the shape of `queries`: rows of the bank.

    Example:

    >>> bank = tf.constant([[0.0], [0.4], [1.0]])
    >>> pick_nearest = keras_advdef.layers._quilting.pick_nearest
    >>> pick_nearest(tf.constant([[0.9]]), tf.constant([1.0]), bank, 2).numpy()
    array([[0.4]], dtype=float32)
    """
    features, count = queries.shape[1], tf.shape(queries)[0]
    chunks = _ceil(count, _CHUNK_QUERIES)
    size = _ceil(count, chunks)
    missing = chunks * size - count
    queries = tf.pad(queries, [[0, missing], [0, 0]])
    ranks = tf.pad(ranks, [[0, missing]])

    def pick(chunk: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        rows = _candidates(chunk[0], bank, neighbors + _SPARE)
        return _ranked(*chunk, rows, bank, neighbors)

    picked = tf.map_fn(
        pick,
        (
            tf.reshape(queries, [chunks, size, features]),
            tf.reshape(ranks, [chunks, size]),
        ),
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([None, features], tf.float32),
    )
    return tf.reshape(picked, [-1, features])[:count]


def _ceil(dividend: tf.Tensor, divisor: tf.Tensor | int) -> tf.Tensor:
    return (dividend + divisor - 1) // divisor


def _candidates(queries: tf.Tensor, bank: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the nearest rows up to rounding; numbers past the end of a small bank."""
    total = tf.shape(bank)[0]
    chunks = _ceil(total, _CHUNK_ROWS)
    groups = tf.maximum(_ceil(_ceil(total, chunks), _GROUP), count)
    size = groups * _GROUP
    # Only a bank of one chunk is padded, so a large one is never copied.
    padded = tf.pad(bank, [[0, tf.maximum(0, size - total)], [0, 0]])
    last = tf.maximum(0, total - size)

    def merge(index: tf.Tensor, best: tf.Tensor, rows: tf.Tensor) -> tuple:
        start = tf.minimum(index * size, last)
        part = tf.slice(padded, [start, 0], [size, bank.shape[1]])
        numbers = tf.cast(start, tf.float32) + tf.range(tf.cast(size, tf.float32))
        seen = numbers < tf.cast(index * size, tf.float32)
        unknown = seen | (numbers >= tf.cast(total, tf.float32))
        near, places = _nearest_of(queries, part, unknown, groups, count)
        near = tf.concat([best, near], axis=1)
        rows = tf.concat([rows, tf.cast(start, tf.float32) + places], axis=1)
        best, order = tf.math.top_k(near, count)
        return index + 1, best, tf.gather(rows, order, batch_dims=1)

    start = tf.fill([tf.shape(queries)[0], count], -float("inf"))
    _, _, rows = tf.while_loop(
        lambda index, *_: index < chunks,
        merge,
        (tf.constant(0), start, tf.zeros_like(start) + tf.cast(total, tf.float32)),
        parallel_iterations=1,
    )
    return rows


def _nearest_of(
    queries: tf.Tensor,
    part: tf.Tensor,
    unknown: tf.Tensor,
    groups: tf.Tensor,
    count: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns negative squared distances, up to a constant per query, and positions."""
    # Pixels centred at zero are rounded less. Centring the rows as well would only add
    # a constant per query.
    products = tf.matmul(queries - _MIDDLE, part, transpose_b=True)
    norms = tf.reduce_sum((part - _MIDDLE) ** 2, axis=1)
    near = 2.0 * products - tf.where(unknown, float("inf"), norms)
    # Each group is spread over the chunk, so that XLA vectorises over the groups.
    grouped = tf.reshape(near, [-1, _GROUP, groups])
    _, chosen = tf.math.top_k(tf.reduce_max(grouped, axis=1), count)
    offsets = tf.range(float(_GROUP)) * tf.cast(groups, tf.float32)
    places = tf.cast(chosen, tf.float32)[:, None, :] + offsets[:, None]
    places = tf.reshape(places, [-1, _GROUP * count])
    members = tf.gather(near, tf.cast(places, tf.int32), batch_dims=1)
    near, order = tf.math.top_k(members, count)
    return near, tf.gather(places, order, batch_dims=1)


def _ranked(
    queries: tf.Tensor,
    ranks: tf.Tensor,
    rows: tf.Tensor,
    bank: tf.Tensor,
    neighbors: int,
) -> tf.Tensor:
    """Returns the row of the given rank, by exact distance, then by row number."""
    # In the order of the bank, so that rounding does not break ties.
    rows = -tf.math.top_k(-rows, rows.shape[1])[0]
    total = tf.cast(tf.shape(bank)[0], tf.float32)
    patches = tf.gather(bank, tf.cast(tf.minimum(rows, total - 1.0), tf.int32))
    far = tf.reduce_sum((patches - queries[:, None]) ** 2, axis=2)
    far = tf.where(rows < total, far, float("inf"))
    _, order = tf.math.top_k(-far, neighbors)
    place = tf.gather(order, tf.cast(ranks[:, None], tf.int32), batch_dims=1)
    return tf.gather(patches, place, batch_dims=1)[:, 0]
