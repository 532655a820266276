"""The saved state of a random stream: how it starts, advances, and stays unique.

A state is an int64 vector as TensorFlow's Philox uses it: the counter, then the second
and the first word of the key.
"""

import contextlib
import os
import random
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core._function_scope import (
    FunctionScope,
    current_function,
    is_symbolic_call,
    outer_functions,
)
from keras_advdef.core.keras_private import in_stateless_scope
from keras_advdef.core.random_numbers import KEYS, PHILOX, philox
from keras_advdef.core.replicas import share_place

# The random source of Unix, and how many of its lines give 256 bits in practice.
_SYSTEM_SOURCE = "/dev/urandom"
_LINES = 8

# All live variables with a random state, by object id.
_live: weakref.WeakValueDictionary[int, keras.Variable | tf.Variable] = (
    weakref.WeakValueDictionary()
)
# `RngReadAndSkip` advances the counter by this much.
_BLOCKS = 256


def fresh_state() -> np.ndarray:
    """Returns a random state whose key is 128 bits of system entropy.

    Returns:
        Int64 array `[counter, second word of the key, first word of the key]`.

    Example:

    >>> from keras_advdef.core.random_stream import fresh_state
    >>> int(fresh_state()[0]), bool(np.all(fresh_state()[1:] != fresh_state()[1:]))
    (0, True)
    """
    return np.append(np.int64(0), np.frombuffer(os.urandom(16), np.int64))


def reseed_after_fork(state: keras.Variable | tf.Variable) -> None:
    """Gives a variable a fresh state in every process forked from this one.

    A forked process starts with a copy of its parent's memory. It would draw the same
    numbers as its parent and its siblings.

    Args:
        state: Variable that holds a random state.

    Example:

    >>> from keras_advdef.core.random_stream import reseed_after_fork
    >>> reseed_after_fork(tf.Variable([0, 0, 5], dtype=tf.int64))
    """
    _live[id(state)] = state


def replica_variables(variable: tf.Variable) -> Sequence[tf.Variable]:
    """Returns the variables of all replicas that the current context controls.

    Args:
        variable: A variable, possibly mirrored by a strategy.

    Returns:
        One variable per local replica. Inside a replica, or without a strategy, only
        `variable` itself.

    Example:

    >>> state = tf.Variable([0, 0, 5], dtype=tf.int64)
    >>> len(keras_advdef.core.random_stream.replica_variables(state))
    1
    """
    is_mirrored = isinstance(variable, tf.distribute.DistributedValues)
    context = tf.distribute.get_replica_context()
    if not is_mirrored or (context and tf.distribute.has_strategy()):
        return [variable]
    strategy = variable.distribute_strategy
    return strategy.experimental_local_results(variable)


def _reseed_live_states() -> None:
    """Reseeds all live states, in a forked process."""
    with tf.init_scope():
        for state in list(_live.values()):
            fresh = fresh_state()
            value = state.value if isinstance(state, keras.Variable) else state
            for variable in replica_variables(value):
                # A forked process cannot use a GPU and must not touch it.
                if "GPU" not in variable.device:
                    variable.assign(fresh)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reseed_live_states)


class FreshAtLoad(tf.saved_model.experimental.TrackableResource):
    """Gives a variable a fresh state whenever an exported SavedModel is loaded.

    A SavedModel stores the random state at export. Without this, every server would
    draw the same noise, and an attacker could replay it. TensorFlow runs `_initialize`
    of each resource when it loads a SavedModel, but not when it restores `.keras`
    files, weights or checkpoints.

    Args:
        state: The TensorFlow variable.

    Example:

    >>> state = tf.Variable([0, 0, 5], dtype=tf.int64)
    >>> resource = keras_advdef.core.random_stream.FreshAtLoad(state)
    """

    def __init__(self, state: tf.Variable) -> None:
        super().__init__()
        self._state = state

    def _create_resource(self) -> tf.Tensor:
        # TensorFlow needs some resource handle; the table stays empty.
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _initialize(self) -> None:
        words = tf.bitwise.bitwise_xor(
            _words_of_the_system(),
            # The fallback where that source is missing, as on Windows: 32 bits of
            # entropy seed the generator of this operation.
            tf.raw_ops.NonDeterministicInts(shape=[2], dtype=tf.int64),
        )
        self._state.assign(tf.concat([tf.zeros([1], tf.int64), words], axis=0))


def _words_of_the_system() -> tf.Tensor:
    """Returns two random words, read by operations that every TensorFlow server has."""
    # No operation asks the system for more than 32 bits, so this reads the system's
    # source as a file. Without that file the words are constant.
    files = tf.io.matching_files(_SYSTEM_SOURCE)
    lines = tf.data.TextLineDataset(files, buffer_size=4096).take(_LINES)
    noise = lines.reduce(
        tf.constant(""), lambda whole, line: tf.strings.join([whole, line])
    )
    hashes = [
        tf.strings.to_hash_bucket_strong(noise, 2**63 - 1, key=[number, number])
        for number in range(4)
    ]
    # Hashes are nonnegative; the sign bit is the lowest bit of another hash.
    signs = [tf.bitwise.left_shift(each, tf.constant(63, tf.int64)) for each in hashes]
    return tf.stack(
        [tf.bitwise.bitwise_xor(hashes[index], signs[index + 2]) for index in range(2)]
    )


_kept = FunctionScope()


def add_random_state(layer: keras.layers.Layer, seed: int | None) -> keras.Variable:
    """Adds the saved state of a random stream to a layer.

    Each draw advances the counter by 256. A forked process gets a fresh state from the
    operating system.

    Args:
        layer: The layer or model that draws.
        seed: Integer in `[0, 2**31)`, the first word of the key; or `None` for 128
            random bits controlled by `keras.utils.set_random_seed`.

    Returns:
        An int64 `keras.Variable` of shape `(3,)`.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_stream.add_random_state(layer, 5)
    >>> state.numpy()
    array([0, 0, 5])
    """
    start = [0, 0, seed]
    if seed is None:
        start = [0, *(random.getrandbits(64) - 2**63 for _ in range(2))]
    state = layer.add_weight(
        name="random_state",
        shape=(3,),
        dtype="int64",
        initializer=lambda shape, dtype=None: tf.constant(start, tf.int64),
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
    )
    reseed_after_fork(state)
    return state


def stream_key(state: keras.Variable | tf.Tensor) -> tf.Tensor:
    """Returns the key of a saved stream, which draws do not change.

    Args:
        state: The variable from `add_random_state`, or its value.

    Returns:
        Int64 tensor of shape `(2,)`. The stream itself folds in numbers from 0 on.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_stream.add_random_state(layer, 5)
    >>> keras_advdef.core.random_stream.stream_key(state).numpy()
    array([5, 0])
    """
    return tf.stack(tf.unstack(tf.convert_to_tensor(state))[:0:-1])


def next_stream_key(state: keras.Variable) -> tf.Tensor:
    """Returns the next key of a saved stream and advances its counter.

    Both happen in one atomic step, so concurrent threads never draw the same key.

    Args:
        state: The variable from `add_random_state`.

    Returns:
        Int64 tensor of shape `(2,)`, different on each replica of a strategy.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_stream.add_random_state(layer, 5)
    >>> key = keras_advdef.core.random_stream.next_stream_key(state)
    >>> state.numpy()
    array([256,   0,   5])
    """
    # Like `fold_in`, in fewer steps.
    current = _read_and_skip(state)
    counter = current[:2] + tf.stack([KEYS + replica_id(), 0])
    return philox(current[2:], counter, [2], tf.int64)


@contextlib.contextmanager
def preserve_variables(
    mapping: Sequence[tuple[keras.Variable, tf.Tensor]] = (),
    *,
    collect_losses: bool = False,
) -> Iterator[None]:
    """Leaves every variable, random states included, unchanged by the body.

    The exception is a `tf.function` traced inside: its trace outlives the body, and
    with a preserved state it would draw the same numbers forever.

    Args:
        mapping: Pairs of a variable and the value it has inside the body.
        collect_losses: Whether `losses` of models hold in the body what layers add in
            it; otherwise it is dropped.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> with keras_advdef.core.random_stream.preserve_variables():
    ...     noise = layer(np.zeros((1, 2)))
    >>> layer.random_state.numpy()
    array([0, 0, 5])
    """
    scope = keras.StatelessScope(state_mapping=mapping, collect_losses=collect_losses)
    with scope, _kept.holding(True):
        yield


def _is_kept() -> bool:
    function = current_function()
    if not in_stateless_scope():
        return False
    if function is None or is_symbolic_call(function) or _kept.value():
        return True
    return not (
        _kept.is_left() or any(map(is_symbolic_call, outer_functions(function)))
    )


def _read_and_skip(state: keras.Variable) -> tf.Tensor:
    if _is_kept():
        current = tf.convert_to_tensor(state)
        state.assign(current + tf.constant([_BLOCKS, 0, 0], tf.int64))
        return current
    # A nested scope without a mapping, so that the variable has its own value.
    with keras.StatelessScope():
        variables = replica_variables(state.value)
    read = [
        tf.raw_ops.RngReadAndSkip(
            resource=variable.handle, alg=PHILOX, delta=tf.constant(1, tf.uint64)
        )
        for variable in variables
    ]
    return read[0]


def replica_id() -> int | tf.Tensor:
    """Returns the id of the current replica, 0 without a strategy or in a share.

    Returns:
        An integer or an int64 scalar tensor.

    Example:

    >>> int(keras_advdef.core.random_stream.replica_id())
    0
    """
    # Shares of an attack draw as one device would.
    if share_place() is not None:
        return 0
    context = tf.distribute.get_replica_context()
    number = 0 if context is None else context.replica_id_in_sync_group
    return tf.cast(number, tf.int64) if tf.is_tensor(number) else number


def upgrade_random_states(store: Any) -> dict[str, np.ndarray]:
    """Returns the variables of a file, with random states in today's format.

    Version 0.1 stored `[seed, counter]`.

    Args:
        store: The argument of `load_own_variables`.

    Example:

    >>> from keras_advdef.core.random_stream import upgrade_random_states
    >>> upgrade_random_states({"0": np.array([5, 2])})["0"]
    array([512,   0,   5])
    """
    loaded = {}
    for name in store.keys():  # noqa: SIM118 - a file's store is not iterable
        value = store[name]
        if value.shape == (2,) and value.dtype == "int64":
            value = np.array([_BLOCKS * value[1], 0, value[0]])
        loaded[name] = value
    return loaded
