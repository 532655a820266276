"""Fast random numbers, and the fast logarithm for numbers up to one they need."""

from collections.abc import Sequence

import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in
from keras_advdef.layers._compiled import compiled

# ln(1 + m) / m for m from sqrt(1/2) - 1 to sqrt(2) - 1, with errors below 2e-7: a
# least-squares fit, reweighted until its errors were even. Highest power first.
_SERIES = (
    -0.1010682166,
    0.1622254905,
    -0.1725084014,
    0.1990016981,
    -0.2496990862,
    0.3333505880,
    -0.5000036513,
    0.9999999453,
)
_LN_2 = 0.6931471806
_MANTISSA_BITS = 23
# The bits of sqrt(1/2): from there on, the exponent counts as that of one.
_SQRT_HALF = 0x3F3504F3


def unit_log(values: tf.Tensor) -> tf.Tensor:
    """Returns natural logarithms, at half the cost of `tf.math.log` on a CPU.

    It has no special cases: values outside `[2**-126, 1]` give some number, and no
    error. Zero gives about -88.

    Args:
        values: Float32 tensor in `[0, 1]`.

    Returns:
        Float32 tensor of the same shape, with a relative error below 5e-7.

    Example:

    >>> logarithm = keras_advdef.layers._bulk_random.unit_log(tf.constant([1.0, 0.5]))
    >>> logarithm.numpy().round(6)
    array([ 0.      , -0.693147], dtype=float32)
    """
    # On a GPU, TensorFlow keeps int32 arithmetic in host memory, but not uint32.
    bits = tf.bitcast(values, tf.uint32)
    above = tf.bitcast(bits - tf.constant(_SQRT_HALF, tf.uint32), tf.int32)
    exponent = tf.bitwise.right_shift(above, _MANTISSA_BITS)
    bits -= tf.bitcast(tf.bitwise.left_shift(exponent, _MANTISSA_BITS), tf.uint32)
    excess = tf.bitcast(bits, tf.float32) - 1.0
    series = polynomial(_SERIES, excess)
    return tf.cast(exponent, tf.float32) * _LN_2 + excess * series


def unit_log1p(values: tf.Tensor) -> tf.Tensor:
    """Returns `log(1 + x)` for `x` in `[-1, 0]`, accurate near 0 too.

    Args:
        values: Float32 tensor in `[-1, 0]`.

    Returns:
        Float32 tensor of the same shape, with a relative error below 1e-6; about -88
        for -1.

    Example:

    >>> float(keras_advdef.layers._bulk_random.unit_log1p(tf.constant(-1e-10)))
    -1.000000013351432e-10
    """
    # The rounding error of 1 + x cancels between the logarithm and the divisor (Kahan).
    rounded = 1.0 + values
    slope = unit_log(rounded) / (rounded - 1.0)
    return tf.where(tf.equal(rounded, 1.0), values, values * slope)


def polynomial(coefficients: Sequence[float], values: tf.Tensor) -> tf.Tensor:
    """Returns a polynomial by Horner's rule.

    Args:
        coefficients: Numbers, highest power first.
        values: Float tensor.

    Returns:
        Tensor of the same shape and dtype.

    Example:

    >>> float(keras_advdef.layers._bulk_random.polynomial((1, 0, 5), tf.constant(2.0)))
    9.0
    """
    result = coefficients[0] * values + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * values + coefficient
    return result


# Shifts and odd factors of the hash `lowbias32` (Wellons 2018).
_FIRST_SHIFT, _FIRST_FACTOR = 16, 0x7FEB352D
_SECOND_SHIFT, _SECOND_FACTOR = 15, 0x846CA68B
_LAST_SHIFT = 16
# Separates these streams from other draws with the same key.
_STREAM = 0x5EED
_UNIFORM_BITS = 24
_LOW_BITS = 0x7FFFFFFF
# Let q(t) be the number that a standard normal exceeds in absolute value with
# probability t. q(t) / (1 - t) is a smooth function of -ln(t (2 - t)). For t in
# [2^-32, 1], a quotient of two polynomials gives it with errors below 2e-7. Giles
# (2010) uses two pieces for the same function. Highest power first.
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


def bulk_uniform(
    key: tf.Tensor, shape: Sequence[int | tf.Tensor] | tf.Tensor
) -> tf.Tensor:
    """Draws float32 uniforms in `[0, 1)`, the same to the bit in eager, graph and XLA.

    Like `random_numbers.uniform`, with different numbers, at a fraction of the cost: a
    hash of each number's index, in two multiply-xorshift rounds. Philox turns the key
    into 95 bits: where the stream starts, an odd stride, and a mask between the rounds.
    Hence no two streams share a stretch. Use it for noise, not for secrets: from some
    of the numbers, others of the same key can be found, though not the key.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors. Up to `2**32`
            numbers differ; more would repeat.

    Returns:
        Float32 tensor of that shape, on the grid of multiples of `2**-24`.

    Example:

    >>> from keras_advdef.layers._bulk_random import bulk_uniform
    >>> from keras_advdef.core.random_numbers import make_key
    >>> bulk_uniform(make_key(3), [2]).shape
    TensorShape([2])
    """
    return tf.reshape(_uniforms(key, _size(shape)), shape)


def bulk_normal(
    key: tf.Tensor, shape: Sequence[int | tf.Tensor] | tf.Tensor
) -> tf.Tensor:
    """Draws float32 standard normals, equal everywhere to rounding.

    Like `random_numbers.normal`, with different numbers, at a fraction of the cost: the
    normal quantile of a hash; see `bulk_uniform`. The largest is 6.3.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors. Up to `2**32`
            numbers differ; more would repeat.

    Returns:
        Float32 tensor of that shape.

    Example:

    >>> from keras_advdef.layers._bulk_random import bulk_normal
    >>> from keras_advdef.core.random_numbers import make_key
    >>> bulk_normal(make_key(3), [2]).shape
    TensorShape([2])
    """
    return tf.reshape(_normals(key, _size(shape)), shape)


def _size(shape: Sequence[int | tf.Tensor] | tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(shape, tf.int64))


def _scrambled(key: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns 32 random bits for each index, both as uint32."""
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
    # One bit is the sign; the other 31 give the tail its resolution.
    low = tf.cast(tf.bitwise.bitwise_and(bits, _LOW_BITS), tf.float32)
    tail = low * 2**-31 + 2**-32
    depth = -unit_log(tail * (2.0 - tail))
    ratio = polynomial(_NUMERATOR, depth) / polynomial(_DENOMINATOR, depth)
    # Minus one or zero, without a comparison: TensorFlow runs those of int32 on the
    # host.
    sign = tf.cast(tf.bitwise.right_shift(bits, 31), tf.float32)
    return (1.0 + 2.0 * sign) * ((1.0 - tail) * ratio)
