"""Keys and the numbers drawn from them, equal in eager mode, graphs and XLA."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.compiled import traced_once

SEED_LIMIT = 2**31
# 24 bits fill the mantissa of a float32: every draw below 1 is exact.
_UNIFORM_BITS = 24


def make_key(seed: Any = None) -> tf.Tensor:
    """Returns a key: from an integer always the same, from `None` a fresh one.

    Args:
        seed: Integer in `[0, 2**31)`; a key, which is returned as it is; or `None`
            for a key drawn when the graph runs, also inside a traced function.

    Returns:
        Int32 tensor of shape `(2,)`.

    Raises:
        ValueError: If the seed is none of these.

    Example:

    >>> keras_advdef.core.random_numbers.make_key(3).numpy()
    array([3, 0], dtype=int32)
    """
    if seed is None:
        return tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)
    if tf.is_tensor(seed):
        return tf.ensure_shape(tf.cast(seed, tf.int32), [2])
    seed = checked_integer("make_key", "seed", seed, low=0, high=SEED_LIMIT - 1)
    return tf.constant([seed, 0], tf.int32)


def fold_in(key: tf.Tensor, data: Any) -> tf.Tensor:
    """Returns a new key made of a key and an integer.

    Args:
        key: Int32 tensor of shape `(2,)`.
        data: Integer or integer scalar tensor.

    Returns:
        Int32 tensor of shape `(2,)`.

    Example:

    >>> from keras_advdef.core.random_numbers import fold_in, make_key
    >>> bool(np.all(fold_in(make_key(3), 1) == fold_in(make_key(3), 2)))
    False
    """
    return _folded(key, tf.cast(data, tf.int32))


# As a function it adds one node to a graph, not fifty: models with noise before every
# convolution are traced and exported in half the time.
@traced_once
def _folded(key: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(key, data, alg="philox")


def uniform(key: tf.Tensor, shape: Sequence[Any]) -> tf.Tensor:
    """Draws float32 uniforms in `[0, 1)`, the same to the bit in eager, graph and XLA.

    Args:
        key: Int32 tensor of shape `(2,)`.
        shape: Shape of the result; entries may be scalar tensors.

    Returns:
        Float32 tensor of that shape, on the grid of multiples of `2**-24`.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key, uniform
    >>> uniform(make_key(3), [2]).shape
    TensorShape([2])
    """
    # TensorFlow's float draws differ between XLA and the other backends; its
    # integer draws do not.
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    shift = tf.constant(32 - _UNIFORM_BITS, tf.uint32)
    return tf.cast(tf.bitwise.right_shift(bits, shift), tf.float32) * 2**-_UNIFORM_BITS


def normal(key: tf.Tensor, shape: Sequence[Any]) -> tf.Tensor:
    """Draws float32 standard normals (Box and Muller), equal everywhere to rounding.

    Args:
        key: Int32 tensor of shape `(2,)`.
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


def integers(key: tf.Tensor, shape: Sequence[Any], counts: Any) -> tf.Tensor:
    """Draws whole numbers uniformly from `0, 1, ..., counts - 1`, as float32.

    They stay floats because the arithmetic of int32 tensors runs in host memory even
    on a GPU.

    Args:
        key: Int32 tensor of shape `(2,)`.
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
