"""The pair of pixels with the largest product of two sums, exact in little memory."""

from typing import Any

import tensorflow as tf

from keras_advdef.core.image_layout import value_count

# Rows and columns of the part of the table of pairs that is looked at in one piece.
_TILE = 64
# Stands for values that no pair may hold; products of its sums stay finite.
_NEVER = -1e18
# Of an image whose size is unknown while a graph is built.
_MOST_PIXELS = 2**24


def best_pair(first: tf.Tensor, second: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Returns the pair p, q with the largest `(f_p + f_q) * (s_p + s_q)`.

    Only pairs count for which both sums are positive. A pixel that two others equal
    or surpass in both values can be replaced in any pair, so it is left out; the
    pairs of the rest, usually a few dozen pixels, are compared tile by tile.

    Args:
        first: Float32 tensor of shape `(batch, pixels)`.
        second: The same.
        allowed: Boolean tensor of the same shape, the pixels that may be in a pair.

    Returns:
        Boolean tensor of the same shape: two true values in each row, or none where
        no pair counts.

    Example:

    >>> first = tf.constant([[3.0, 1.0, 2.0]])
    >>> allowed = tf.constant([[True, True, True]])
    >>> keras_advdef.attacks._pixel_pairs.best_pair(first, first, allowed).numpy()
    array([[ True, False,  True]])
    """
    pixels = _width(first)
    places, values = _survivors(_scaled(first), _scaled(second), allowed)
    count = tf.reduce_max(tf.reduce_sum(tf.cast(values[0] > _NEVER, tf.float32), 1))
    tiles = tf.cast(tf.math.ceil(count / _TILE), tf.int32)
    product, one, other = _search(*values, tiles)
    found = (product > 0.0)[:, None]
    is_one, is_other = (
        tf.one_hot(_picked(places, each), pixels, on_value=True, off_value=False)
        for each in (one, other)
    )
    return found & (is_one | is_other)


def _width(values: tf.Tensor) -> Any:
    """Returns the length of the rows, a number where it is known."""
    return values.shape[1] or tf.shape(values)[1]


def _scaled(values: tf.Tensor) -> tf.Tensor:
    """Divides by the largest size, so that products do not underflow."""
    largest = tf.reduce_max(tf.abs(values), axis=1, keepdims=True)
    return tf.math.divide_no_nan(values, largest)


def _picked(places: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    picked = tf.gather(places, tf.cast(index[:, None], tf.int32), batch_dims=1)
    return tf.cast(picked[:, 0], tf.int32)


def _survivors(
    first: tf.Tensor, second: tf.Tensor, allowed: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Returns the pixels that a best pair may need, those in front, padded.

    Returns:
        Their places in the image as floats, and their two values, each
        `(batch, padded pixels)`; the rest is `_NEVER`.
    """
    pixels = _width(first)
    first = tf.where(allowed, first, _NEVER)
    second = tf.where(allowed, second, _NEVER)
    first, order = tf.math.top_k(first, pixels)
    second = tf.gather(second, order, batch_dims=1)
    # In this order nobody but a predecessor surpasses a pixel in both values.
    keep = second > _second_largest_before(second)
    # Distinct numbers, so that survivors stay in order whatever sorts them.
    rank = tf.where(keep, tf.range(pixels, 0, -1, tf.float32), 0.0)
    front = tf.math.top_k(rank, pixels).indices
    places = tf.gather(tf.cast(order, tf.float32), front, batch_dims=1)
    padding = [[0, 0], [0, -pixels % _TILE]]
    first, second = (
        tf.pad(
            tf.gather(tf.where(keep, each, _NEVER), front, batch_dims=1),
            padding,
            constant_values=_NEVER,
        )
        for each in (first, second)
    )
    return places, (first, second)


def _second_largest_before(values: tf.Tensor) -> tf.Tensor:
    """Returns, for each place of a row, the second largest value before it."""
    largest = _shifted(values, 1)
    second = tf.fill(tf.shape(values), _NEVER)
    # Each round doubles how many values a place has seen.
    for power in range(((values.shape[1] or _MOST_PIXELS) - 1).bit_length()):
        reach = 2**power
        earlier, earlier_second = _shifted(largest, reach), _shifted(second, reach)
        smaller = tf.minimum(largest, earlier)
        second = tf.maximum(smaller, tf.maximum(second, earlier_second))
        largest = tf.maximum(largest, earlier)
    return second


def _shifted(values: tf.Tensor, count: int) -> tf.Tensor:
    places = tf.range(value_count(values))
    return tf.where(places >= count, tf.roll(values, count, axis=1), _NEVER)


def _search(
    first: tf.Tensor, second: tf.Tensor, tiles: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the largest product and the two columns that give it, as floats."""
    cut = [-1, _width(first) // _TILE, _TILE]
    first, second = tf.reshape(first, cut), tf.reshape(second, cut)

    def look(row: Any, column: Any, best: tuple[tf.Tensor, ...]) -> tuple[Any, ...]:
        rows = [tf.gather(each, row, axis=1)[:, :, None] for each in (first, second)]
        columns = [
            tf.gather(each, column, axis=1)[:, None, :] for each in (first, second)
        ]
        firsts, seconds = rows[0] + columns[0], rows[1] + columns[1]
        one = tf.cast(row * _TILE, tf.float32) + tf.range(_TILE, dtype=tf.float32)
        other = tf.cast(column * _TILE, tf.float32) + tf.range(_TILE, dtype=tf.float32)
        counts = (firsts > 0.0) & (seconds > 0.0) & (one[:, None] < other)
        products = tf.where(counts, firsts * seconds, 0.0)
        return _better(tf.reshape(products, [-1, _TILE * _TILE]), one, other, best)

    def step(row: Any, column: Any, best: tuple[tf.Tensor, ...]) -> tuple[Any, ...]:
        best = look(row, column, best)
        is_last = column + 1 >= tiles
        following = tf.where(is_last, row + 1, column + 1)
        return tf.where(is_last, row + 1, row), following, best

    zeros = tf.zeros_like(first[:, 0, 0])
    return tf.while_loop(
        lambda row, column, best: row < tiles,
        step,
        (tf.constant(0), tf.constant(0), (zeros, zeros, zeros)),
        parallel_iterations=1,
    )[2]


def _better(
    products: tf.Tensor, one: tf.Tensor, other: tf.Tensor, best: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Returns the best pair so far, a tile `(batch, rows * columns)` later."""
    index = tf.cast(tf.argmax(products, axis=1), tf.float32)
    row = tf.floor(index / _TILE)
    new = (
        tf.reduce_max(products, axis=1),
        one[0] + row,
        other[0] + index - row * _TILE,
    )
    better = new[0] > best[0]
    return tuple(
        tf.where(better, mine, old) for mine, old in zip(new, best, strict=True)
    )
