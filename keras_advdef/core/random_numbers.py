"""Keys, and random numbers drawn from them: equal in eager mode, graphs and XLA."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_integer

Shape = Sequence[int | tf.Tensor]

SEED_LIMIT = 2**31
# TensorFlow's number for the Philox generator.
PHILOX = 1
# Derived keys start here in the stream of a key, apart from its numbers.
KEYS = -(2**63)
# An array: it wraps around as a tensor does.
_PLACES = np.array([KEYS])
# 24 bits fill the mantissa of a float32, so every draw is exact and below 1.
_UNIFORM_BITS = 24
_START = np.array([0])


def make_key(seed: int | tf.Tensor | None = None) -> tf.Tensor:
    """Returns a key: a fixed one for an integer, a fresh one for `None`.

    Args:
        seed: Integer in `[0, 2**31)`; a key, which is returned unchanged; or `None` for
            a key drawn when the graph runs, even inside a traced function.

    Returns:
        Int64 tensor of shape `(2,)`.

    Raises:
        ValueError: If the seed is an integer outside of that range, or anything else.

    Example:

    >>> keras_advdef.core.random_numbers.make_key(3).numpy()
    array([3, 0])
    """
    if seed is None:
        return tf.random.uniform([2], tf.int64.min, tf.int64.max, tf.int64)
    if tf.is_tensor(seed):
        return tf.ensure_shape(tf.cast(seed, tf.int64), [2])
    seed = checked_integer("make_key", "seed", seed, low=0, high=SEED_LIMIT - 1)
    return tf.constant([seed, 0], tf.int64)


def fold_in(key: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """Returns a new key from a key and an integer: one 128-bit block of Philox.

    Args:
        key: Int64 tensor of shape `(2,)`.
        data: Integer or integer scalar tensor, between `-2**62` and `2**62`.

    Returns:
        Int64 tensor of shape `(2,)`.

    Example:

    >>> from keras_advdef.core.random_numbers import fold_in, make_key
    >>> bool(np.all(fold_in(make_key(3), 1) == fold_in(make_key(3), 2)))
    False
    """
    place: Any = (
        tf.cast(data, tf.int64) + KEYS if tf.is_tensor(data) else _PLACES + data
    )
    return philox(*_key_and_counter(key, place), [2], tf.int64)


def _key_and_counter(
    key: tf.Tensor, place: np.ndarray | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first word of a key, and a counter of a place and the second word.

    In few operations, since attacks trace this often.
    """
    key = tf.cast(key, tf.int64)
    # GPUs have no kernel to split integers.
    return tf.slice(key, [0], [1]), tf.where([True, False], place, key)


def philox(
    key: tf.Tensor, counter: tf.Tensor, shape: Shape, dtype: tf.DType
) -> tf.Tensor:
    """Returns random bits of the Philox stream, starting at a given counter.

    Args:
        key: Int64 tensor of shape `(1,)`.
        counter: Int64 tensor of shape `(2,)`, low word first. Counters below `2**63`
            serve numbers; those from `KEYS` on serve keys.
        shape: Shape of the result; entries may be scalar tensors.
        dtype: An integer type.

    Returns:
        Tensor of that shape and type, with every bit random.

    Example:

    >>> from keras_advdef.core.random_numbers import philox
    >>> key, counter = tf.ones([1], tf.int64), tf.zeros([2], tf.int64)
    >>> philox(key, counter, [5], tf.int32).shape
    TensorShape([5])
    """
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.convert_to_tensor(shape, dtype_hint=tf.int32),
        key=tf.bitcast(key, tf.uint64),
        counter=tf.bitcast(counter, tf.uint64),
        alg=PHILOX,
        dtype=dtype,
    )


def uniform(key: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Draws float32 uniforms in `[0, 1)`, bit for bit equal in eager, graph and XLA.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors.

    Returns:
        Float32 tensor of that shape, on the grid of multiples of `2**-24`.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key, uniform
    >>> uniform(make_key(3), [2]).shape
    TensorShape([2])
    """
    # TensorFlow's float draws differ between XLA and other backends; its integer
    # draws do not.
    bits = philox(*_key_and_counter(key, _START), shape, tf.uint32)
    shift = tf.constant(32 - _UNIFORM_BITS, tf.uint32)
    return tf.cast(tf.bitwise.right_shift(bits, shift), tf.float32) * 2**-_UNIFORM_BITS


def normal(key: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Draws float32 standard normals (Box-Muller), equal everywhere up to rounding.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors.

    Returns:
        Float32 tensor of that shape.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key, normal
    >>> normal(make_key(3), [2]).shape
    TensorShape([2])
    """
    half = uniform(key, [2, *shape])
    # Half a grid step keeps the logarithm finite.
    radius = tf.sqrt(-2.0 * tf.math.log(half[0] + 2 ** -(_UNIFORM_BITS + 1)))
    return radius * tf.cos(2.0 * math.pi * half[1])


def integers(key: tf.Tensor, shape: Shape, counts: float | tf.Tensor) -> tf.Tensor:
    """Draws whole numbers uniformly from `0, 1, ..., counts - 1`, as float32.

    The result stays float because int32 arithmetic runs in host memory even on a GPU.

    Args:
        key: Int64 tensor of shape `(2,)`.
        shape: Shape of the result.
        counts: Number of values, a float or a float tensor that broadcasts; below
            `2**24`.

    Returns:
        Float32 tensor of whole numbers.

    Example:

    >>> from keras_advdef.core.random_numbers import integers, make_key
    >>> sorted(set(integers(make_key(3), [50], 3).numpy().tolist()))
    [0.0, 1.0, 2.0]
    """
    return tf.floor(uniform(key, shape) * tf.cast(counts, tf.float32))
