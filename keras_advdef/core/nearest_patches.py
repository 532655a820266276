"""Exact nearest neighbours among very many patches, in bounded memory."""

import tensorflow as tf

# Distances between one chunk of queries and one chunk of the bank: 64 MB of float32.
_CHUNK_QUERIES = 512
_CHUNK_ROWS = 32768
# The k nearest rows lie in the k groups with the smallest minima, so that only these
# groups are sorted: sorting whole rows of distances costs more than the distances.
_GROUP = 16
# Matrix products round, to TF32 on some GPUs; so many more candidates are compared by
# their exact differences.
_SPARE = 6
# Row numbers travel as float32, because int32 arithmetic runs in host memory.
MOST_ROWS = 2**24
_MIDDLE = 0.5


def pick_nearest(
    queries: tf.Tensor, ranks: tf.Tensor, bank: tf.Tensor, neighbors: int
) -> tf.Tensor:
    """Returns for each query its nearest, second nearest, ... row of a bank.

    Distances are Euclidean; of rows equally far any may count as nearer. Beside what
    goes in and out it holds one chunk of distances, 64 MB, whatever the size of the
    bank.

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
    >>> pick_nearest = keras_advdef.core.nearest_patches.pick_nearest
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
    """Rows that are nearest up to rounding; numbers past the bank if it is small."""
    total = tf.shape(bank)[0]
    chunks = _ceil(total, _CHUNK_ROWS)
    groups = tf.maximum(_ceil(_ceil(total, chunks), _GROUP), count)
    size = groups * _GROUP
    # Only a bank of one chunk is padded, so no large one is copied.
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
    """Negative squared distances, up to a constant of each query, and places."""
    # Pixels around zero round less. What centring the rows would add to the product
    # depends on the query alone.
    products = tf.matmul(queries - _MIDDLE, part, transpose_b=True)
    norms = tf.reduce_sum((part - _MIDDLE) ** 2, axis=1)
    near = 2.0 * products - tf.where(unknown, float("inf"), norms)
    # A group is spread over the chunk, so that XLA vectorises over the groups.
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
    """The row of the given rank, by exact distances and then by row number."""
    # In the order of the bank, lest rounded products decide between equals.
    rows = -tf.math.top_k(-rows, rows.shape[1])[0]
    total = tf.cast(tf.shape(bank)[0], tf.float32)
    patches = tf.gather(bank, tf.cast(tf.minimum(rows, total - 1.0), tf.int32))
    far = tf.reduce_sum((patches - queries[:, None]) ** 2, axis=2)
    far = tf.where(rows < total, far, float("inf"))
    _, order = tf.math.top_k(-far, neighbors)
    place = tf.gather(order, tf.cast(ranks[:, None], tf.int32), batch_dims=1)
    return tf.gather(patches, place, batch_dims=1)[:, 0]
