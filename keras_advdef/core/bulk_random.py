"""Random numbers by the million, by a hash of their place: cheap on a CPU too."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_advdef.core.compiled import compiled
from keras_advdef.core.logarithm import polynomial, unit_log
from keras_advdef.core.random_numbers import fold_in

# Shifts and odd factors of the hash `lowbias32` (Wellons 2018).
_FIRST_SHIFT, _FIRST_FACTOR = 16, 0x7FEB352D
_SECOND_SHIFT, _SECOND_FACTOR = 15, 0x846CA68B
_LAST_SHIFT = 16
# Tells these streams from whatever else is drawn with the same key.
_STREAM = 0x5EED
_UNIFORM_BITS = 24
_LOW_BITS = 0x7FFFFFFF
# The normal number that a share t of all exceed in size, divided by 1 - t, is a smooth
# function of -ln(t (2 - t)): for t from 2^-32 to 1 a quotient of two polynomials, to
# 2e-7. Giles (2010) takes two pieces of the same function. Highest power first.
_NUMERATOR = (
    2.928777e-05,
    9.991661e-04,
    1.187325e-02,
    8.982093e-02,
    4.523674e-01,
    1.253314,
)
_DENOMINATOR = (
    1.008456e-06,
    1.697669e-04,
    2.279091e-03,
    3.266907e-02,
    9.914035e-02,
    1.0,
)


def bulk_uniform(key: tf.Tensor, shape: Sequence[Any] | tf.Tensor) -> tf.Tensor:
    """Draws float32 uniforms in `[0, 1)`, the same to the bit in eager, graph and XLA.

    As `random_numbers.uniform`, with other numbers, at a fraction of the cost: two
    multiply-xorshift rounds over the place of each number. Philox makes 95 bits of the
    key: where its stream starts, by which odd stride it runs, and a mask between the
    rounds, so that no two streams have a stretch in common. Fit for noise, not for
    secrets: who sees some of the numbers may find the others of the same key, though
    not the key.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors. Up to `2**32`
            numbers differ; more would repeat.

    Returns:
        Float32 tensor of that shape, on the grid of multiples of `2**-24`.

    Example:

    >>> from keras_advdef.core.bulk_random import bulk_uniform
    >>> from keras_advdef.core.random_numbers import make_key
    >>> bulk_uniform(make_key(3), [2]).shape
    TensorShape([2])
    """
    return tf.reshape(_uniforms(key, _size(shape)), shape)


def bulk_normal(key: tf.Tensor, shape: Sequence[Any] | tf.Tensor) -> tf.Tensor:
    """Draws float32 standard normals, equal everywhere to rounding.

    As `random_numbers.normal`, with other numbers, at a fraction of the cost: the
    normal quantile of a hash; see `bulk_uniform`. The largest is 6.3.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors. Up to `2**32`
            numbers differ; more would repeat.

    Returns:
        Float32 tensor of that shape.

    Example:

    >>> from keras_advdef.core.bulk_random import bulk_normal
    >>> from keras_advdef.core.random_numbers import make_key
    >>> bulk_normal(make_key(3), [2]).shape
    TensorShape([2])
    """
    return tf.reshape(_normals(key, _size(shape)), shape)


def _size(shape: Sequence[Any] | tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(shape, tf.int64))


def _scrambled(key: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """32 random bits for each place, both uint32."""
    words = tf.reshape(tf.bitcast(fold_in(key, _STREAM), tf.uint32), [4])
    stride = tf.bitwise.bitwise_or(words[1], tf.constant(1, tf.uint32))
    bits = _folded(places * stride + words[0], _FIRST_SHIFT) * _FIRST_FACTOR
    bits = _folded(tf.bitwise.bitwise_xor(bits, words[2]), _SECOND_SHIFT)
    bits *= _SECOND_FACTOR
    return _folded(bits, _LAST_SHIFT)


def _folded(bits: tf.Tensor, shift: int) -> tf.Tensor:
    moved = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
    return tf.bitwise.bitwise_xor(bits, moved)


def _places(size: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.range(size), tf.uint32)


@compiled
def _uniforms(key: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    shift = tf.constant(32 - _UNIFORM_BITS, tf.uint32)
    bits = tf.bitwise.right_shift(_scrambled(key, _places(size)), shift)
    return tf.cast(bits, tf.float32) * 2**-_UNIFORM_BITS


@compiled
def _normals(key: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    bits = tf.bitcast(_scrambled(key, _places(size)), tf.int32)
    # One bit is the sign; the others leave the tail its fine steps.
    low = tf.cast(tf.bitwise.bitwise_and(bits, _LOW_BITS), tf.float32)
    tail = low * 2**-31 + 2**-32
    depth = -unit_log(tail * (2.0 - tail))
    ratio = polynomial(_NUMERATOR, depth) / polynomial(_DENOMINATOR, depth)
    # Minus one or zero: a GPU compares whole numbers in the memory of its host.
    sign = tf.cast(tf.bitwise.right_shift(bits, 31), tf.float32)
    return (1.0 + 2.0 * sign) * ((1.0 - tail) * ratio)
