"""Random states from the operating system, which no other process can know."""

import os
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Where Unix gives random bytes, and how many lines of them make 256 bits in practice.
_SYSTEM_SOURCE = "/dev/urandom"
_LINES = 8

# Of every variable with a random state that is alive, by its place in memory.
_live: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def fresh_state() -> np.ndarray:
    """Returns a random state that starts at the system's entropy, all of 128 bits.

    Returns:
        Int64 array `[counter, second word of the key, first word of the key]`.

    Example:

    >>> from keras_advdef.core.fresh_state import fresh_state
    >>> int(fresh_state()[0]), bool(np.all(fresh_state()[1:] != fresh_state()[1:]))
    (0, True)
    """
    return np.append(np.int64(0), np.frombuffer(os.urandom(16), np.int64))


def own_state_after_fork(state: keras.Variable | tf.Variable) -> None:
    """Gives a variable a fresh state in each process that is forked off this one.

    Such a process starts with a copy of its parent's memory, and would draw what its
    parent and its siblings draw.

    Args:
        state: A variable that holds a random state.

    Example:

    >>> from keras_advdef.core.fresh_state import own_state_after_fork
    >>> own_state_after_fork(tf.Variable([0, 0, 5], dtype=tf.int64))
    """
    _live[id(state)] = state


def replica_variables(variable: tf.Variable) -> Sequence[tf.Variable]:
    """Returns the variables of all replicas that this code speaks for.

    Args:
        variable: A variable, which a strategy may have mirrored.

    Returns:
        Within a replica, and without a strategy, the variable alone.

    Example:

    >>> state = tf.Variable([0, 0, 5], dtype=tf.int64)
    >>> len(keras_advdef.core.fresh_state.replica_variables(state))
    1
    """
    is_mirrored = isinstance(variable, tf.distribute.DistributedValues)
    context = tf.distribute.get_replica_context()
    if not is_mirrored or (context and tf.distribute.has_strategy()):
        return [variable]
    strategy = variable.distribute_strategy
    return strategy.experimental_local_results(variable)


def _take_own_states() -> None:
    """Runs in a forked process."""
    with tf.init_scope():
        for state in list(_live.values()):
            fresh = fresh_state()
            value = state.value if isinstance(state, keras.Variable) else state
            for variable in replica_variables(value):
                # A forked process cannot use a GPU at all, and must not touch it.
                if "GPU" not in variable.device:
                    variable.assign(fresh)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_take_own_states)


class FreshAtLoad(tf.saved_model.experimental.TrackableResource):
    """Gives a variable a fresh state whenever an exported SavedModel is loaded.

    A SavedModel stores the random state as it was, so every server would draw the
    noise that an attacker can replay at home. TensorFlow runs `_initialize` of each
    resource when it loads a SavedModel, and never when `.keras` files, weights or
    checkpoints are restored.

    Args:
        state: The TensorFlow variable.

    Example:

    >>> state = tf.Variable([0, 0, 5], dtype=tf.int64)
    >>> resource = keras_advdef.core.fresh_state.FreshAtLoad(state)
    """

    def __init__(self, state: tf.Variable) -> None:
        super().__init__()
        self._state = state

    def _create_resource(self) -> tf.Tensor:
        # The contents are of no use: TensorFlow only asks for some resource handle.
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _initialize(self) -> None:
        words = tf.bitwise.bitwise_xor(
            _words_of_the_system(),
            # Not from the system where that source is missing, as on Windows: 32 bits
            # of its entropy start the generator behind this operation.
            tf.raw_ops.NonDeterministicInts(shape=[2], dtype=tf.int64),
        )
        self._state.assign(tf.concat([tf.zeros([1], tf.int64), words], axis=0))


def _words_of_the_system() -> tf.Tensor:
    """Two random words, read by operations that every server of TensorFlow has."""
    # No operation asks the system for more than 32 bits; this one reads its source.
    # Where there is none, the words are constant.
    files = tf.io.matching_files(_SYSTEM_SOURCE)
    lines = tf.data.TextLineDataset(files, buffer_size=4096).take(_LINES)
    noise = lines.reduce(
        tf.constant(""), lambda whole, line: tf.strings.join([whole, line])
    )
    hashes = [
        tf.strings.to_hash_bucket_strong(noise, 2**63 - 1, key=[number, number])
        for number in range(4)
    ]
    # A hash has no sign: the lowest bit of another one gives it.
    signs = [tf.bitwise.left_shift(each, tf.constant(63, tf.int64)) for each in hashes]
    return tf.stack(
        [tf.bitwise.bitwise_xor(hashes[index], signs[index + 2]) for index in range(2)]
    )
