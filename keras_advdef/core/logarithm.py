"""A logarithm for numbers up to one, cheap where XLA has a processor's vectors."""

from collections.abc import Sequence

import tensorflow as tf

# ln(1 + m) / m for m from sqrt(1/2) - 1 to sqrt(2) - 1, to 2e-7: a least-squares fit,
# reweighted until its errors were even. Highest power first.
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
# The bits of sqrt(1/2): above it the exponent is that of one.
_SQRT_HALF = 0x3F3504F3


def unit_log(values: tf.Tensor) -> tf.Tensor:
    """Returns natural logarithms, at half the cost of `tf.math.log` on a CPU.

    It knows no special cases: what is not in `[2**-126, 1]` gives no error, and some
    number. Zero gives about -88.

    Args:
        values: Float32 tensor in `[0, 1]`.

    Returns:
        Float32 tensor of the same shape, with a relative error below 5e-7.

    Example:

    >>> logarithm = keras_advdef.core.logarithm.unit_log(tf.constant([1.0, 0.5]))
    >>> logarithm.numpy().round(6)
    array([ 0.      , -0.693147], dtype=float32)
    """
    # On a GPU the arithmetic of int32 runs in host memory; that of uint32 does not.
    bits = tf.bitcast(values, tf.uint32)
    above = tf.bitcast(bits - tf.constant(_SQRT_HALF, tf.uint32), tf.int32)
    exponent = tf.bitwise.right_shift(above, _MANTISSA_BITS)
    bits -= tf.bitcast(tf.bitwise.left_shift(exponent, _MANTISSA_BITS), tf.uint32)
    excess = tf.bitcast(bits, tf.float32) - 1.0
    series = polynomial(_SERIES, excess)
    return tf.cast(exponent, tf.float32) * _LN_2 + excess * series


def unit_log1p(values: tf.Tensor) -> tf.Tensor:
    """Returns `log(1 + x)` for `x` from -1 to 0, exact to rounding near 0 as well.

    Args:
        values: Float32 tensor in `[-1, 0]`.

    Returns:
        Float32 tensor of the same shape, with a relative error below 1e-6; about -88
        for -1.

    Example:

    >>> float(keras_advdef.core.logarithm.unit_log1p(tf.constant(-1e-10)))
    -1.000000013351432e-10
    """
    # What rounding takes from 1 + x, it takes from the logarithm and from the divisor
    # alike (Kahan).
    rounded = 1.0 + values
    slope = unit_log(rounded) / (rounded - 1.0)
    return tf.where(tf.equal(rounded, 1.0), values, values * slope)


def polynomial(coefficients: Sequence[float], values: tf.Tensor) -> tf.Tensor:
    """Returns a polynomial by Horner's rule.

    Args:
        coefficients: Numbers, that of the highest power first.
        values: Float tensor.

    Returns:
        Tensor of the same shape and dtype.

    Example:

    >>> float(keras_advdef.core.logarithm.polynomial((1, 0, 5), tf.constant(2.0)))
    9.0
    """
    result = coefficients[0] * values + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * values + coefficient
    return result
