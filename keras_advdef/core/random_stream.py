"""Saved streams of keys: one variable, which each draw reads and moves on at once."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.fresh_state import own_state_after_fork, replica_variables
from keras_advdef.core.function_scope import (
    FunctionScope,
    current_function,
    is_symbolic_call,
    outer_functions,
)
from keras_advdef.core.keras_private import in_stateless_scope
from keras_advdef.core.random_numbers import KEYS, PHILOX, philox

# By how much `RngReadAndSkip` moves the counter on.
_BLOCKS = 256

_kept = FunctionScope()


def add_random_state(layer: keras.layers.Layer, seed: int | None) -> Any:
    """Adds the saved state of a random stream to a layer.

    It is as Philox of TensorFlow has it: a counter, which every draw moves on by 256,
    and two words of the key, the second before the first. A forked process takes a
    state of its own from the operating system.

    Args:
        layer: The layer or model that draws.
        seed: Integer in `[0, 2**31)`, the first word of the key; or `None` for 128
            random bits that `keras.utils.set_random_seed` governs.

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
    own_state_after_fork(state)
    return state


def stream_key(state: Any) -> tf.Tensor:
    """Returns the key of a saved stream, the same whatever was drawn from it.

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


def advance(state: Any) -> tf.Tensor:
    """Returns the next key of a saved stream and moves its counter on.

    Both in one step of the variable's, so that threads that draw at once never draw
    the same.

    Args:
        state: The variable from `add_random_state`.

    Returns:
        Int64 tensor of shape `(2,)`, another one for each replica of a strategy.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_stream.add_random_state(layer, 5)
    >>> key = keras_advdef.core.random_stream.advance(state)
    >>> state.numpy()
    array([256,   0,   5])
    """
    # As `fold_in` does, in fewer steps.
    current = _read_and_skip(state)
    counter = current[:2] + tf.stack([KEYS + replica_number(), 0])
    return philox(current[2:], counter, [2], tf.int64)


@contextlib.contextmanager
def kept_states(mapping: Sequence[tuple[Any, Any]] = ()) -> Iterator[None]:
    """Keeps every variable, random states among them, from being changed.

    But for what is drawn in a `tf.function` that is traced within: that goes on with
    its trace long after, and would draw the same for ever.

    Args:
        mapping: Variables, each with the value that it has meanwhile.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> with keras_advdef.core.random_stream.kept_states():
    ...     noise = layer(np.zeros((1, 2)))
    >>> layer.random_state.numpy()
    array([0, 0, 5])
    """
    with keras.StatelessScope(state_mapping=mapping), _kept.holding(True):
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


def _read_and_skip(state: Any) -> tf.Tensor:
    if _is_kept():
        current = tf.convert_to_tensor(state)
        state.assign(current + tf.constant([_BLOCKS, 0, 0], tf.int64))
        return current
    # A scope of its own, which knows of no other value than that of the variable.
    with keras.StatelessScope():
        variables = replica_variables(state.value)
    read = [
        tf.raw_ops.RngReadAndSkip(
            resource=variable.handle, alg=PHILOX, delta=tf.constant(1, tf.uint64)
        )
        for variable in variables
    ]
    return read[0]


def replica_number() -> Any:
    """Returns the number of the replica that this code runs in, 0 without a strategy.

    Returns:
        An integer or an int64 scalar tensor.

    Example:

    >>> int(keras_advdef.core.random_stream.replica_number())
    0
    """
    context = tf.distribute.get_replica_context()
    number = 0 if context is None else context.replica_id_in_sync_group
    return tf.cast(number, tf.int64) if tf.is_tensor(number) else number


def of_today(store: Any) -> dict[str, Any]:
    """Returns the variables of a file, random states of version 0.1 as they are now.

    Those were `[seed, counter]`.

    Args:
        store: What `load_own_variables` gets.

    Example:

    >>> from keras_advdef.core.random_stream import of_today
    >>> of_today({"0": np.array([5, 2])})["0"]
    array([512,   0,   5])
    """
    loaded = {}
    for name in store.keys():  # noqa: SIM118 - a file's store has no iterator
        value = store[name]
        if value.shape == (2,) and value.dtype == "int64":
            value = np.array([_BLOCKS * value[1], 0, value[0]])
        loaded[name] = value
    return loaded
