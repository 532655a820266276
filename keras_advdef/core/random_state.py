"""Saved, replica-aware randomness for layers, and the scope that replaces it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.card_asset import CardAsset
from keras_advdef.core.cards import card_of
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import (
    conversion_format,
    flat_layers,
    make_default_seed,
)
from keras_advdef.core.random_numbers import SEED_LIMIT, fold_in

_active = threading.local()


class _DrawScope:
    """One entered `draw_scope`: its key and how many draws it has served."""

    def __init__(self, key: tf.Tensor) -> None:
        self.key = key
        self.draws = 0


@contextlib.contextmanager
def draw_scope(key: tf.Tensor) -> Iterator[None]:
    """Makes random layers draw from `key` and leave their saved counter alone.

    Attacks and evaluation call models only inside such a scope, so that they change
    no variable and give the same result for the same key. A key must not be captured
    by a `tf.function` that outlives the scope: draw first, then pass the draw in.

    Args:
        key: Int32 tensor of shape `(2,)`, from `make_key` or `fold_in`.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key
    >>> from keras_advdef.core.random_state import draw_scope
    >>> noise = keras_advdef.layers.RandomNoise(0.1)
    >>> with draw_scope(make_key(7)):
    ...     first = noise(np.zeros((1, 2)))
    >>> with draw_scope(make_key(7)):
    ...     second = noise(np.zeros((1, 2)))
    >>> bool(np.all(first == second))
    True
    """
    outer = getattr(_active, "scope", None)
    _active.scope = _DrawScope(key)
    try:
        yield
    finally:
        _active.scope = outer


def scope_key() -> tf.Tensor | None:
    """Returns the next key of the current `draw_scope`, or `None` outside.

    Draws are told apart by their order, so that a model built again, under whatever
    names, draws the same, and a layer that is called twice does not repeat itself.
    Replicas of a strategy differ.

    Returns:
        Int32 tensor of shape `(2,)`, or `None`.

    Example:

    >>> keras_advdef.core.random_state.scope_key() is None
    True
    """
    scope = getattr(_active, "scope", None)
    if scope is None:
        return None
    scope.draws += 1
    return _fold_in_replica(fold_in(scope.key, scope.draws))


def checked_seed(owner: str, seed: Any) -> int | None:
    """Returns a seed, or raises if it can start no stream.

    Args:
        owner: Name of the class that takes it.
        seed: Integer in `[0, 2**31)` or `None`.

    Returns:
        The seed.

    Raises:
        ValueError: If it is neither.

    Example:

    >>> keras_advdef.core.random_state.checked_seed("RandomNoise", 5)
    5
    """
    if seed is None:
        return None
    return checked_integer(owner, "seed", seed, low=0, high=SEED_LIMIT - 1)


def add_random_state(layer: keras.layers.Layer, seed: int | None) -> Any:
    """Adds the saved state of a random stream, `[seed, counter]`, to a layer.

    Args:
        layer: The layer or model that draws.
        seed: Integer in `[0, 2**31)`, or `None` to take one that
            `keras.utils.set_random_seed` governs.

    Returns:
        An int64 `keras.Variable` of shape `(2,)`.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_state.add_random_state(layer, 5)
    >>> state.numpy()
    array([5, 0])
    """
    start = make_default_seed() % SEED_LIMIT if seed is None else seed
    return layer.add_weight(
        name="random_state",
        shape=(2,),
        dtype="int64",
        initializer=lambda shape, dtype=None: tf.constant([start, 0], tf.int64),
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
    )


def advance(state: Any) -> tf.Tensor:
    """Returns the next key of a saved stream and moves its counter on by one.

    Args:
        state: The variable from `add_random_state`.

    Returns:
        Int32 tensor of shape `(2,)`, another one for each replica of a strategy.

    Example:

    >>> layer = keras.layers.Layer()
    >>> state = keras_advdef.core.random_state.add_random_state(layer, 5)
    >>> key = keras_advdef.core.random_state.advance(state)
    >>> state.numpy()
    array([5, 1])
    """
    current = tf.convert_to_tensor(state)
    state.assign(current + tf.constant([0, 1], tf.int64))
    return _fold_in_replica(tf.cast(current, tf.int32))


def _fold_in_replica(key: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    return fold_in(key, replica)


class _SeedAtLoad(tf.saved_model.experimental.TrackableResource):
    """Draws a new seed whenever an exported SavedModel is loaded.

    A SavedModel stores the random state as it was, so every server would draw the
    noise that an attacker can replay at home. TensorFlow runs `_initialize` of each
    resource when it loads a SavedModel, and never when `.keras` files, weights or
    checkpoints are restored.
    """

    def __init__(self, state: Any) -> None:
        super().__init__()
        self._state = state.value

    def _create_resource(self) -> tf.Tensor:
        # The contents are of no use: TensorFlow only asks for some resource handle.
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _initialize(self) -> None:
        # The stateful operation with both seeds zero ignores `set_random_seed`.
        bound = tf.constant(SEED_LIMIT - 1, tf.int64)
        seed = tf.raw_ops.RandomUniformInt(
            shape=[1], minval=tf.constant(0, tf.int64), maxval=bound, seed=0, seed2=0
        )
        self._state.assign(tf.concat([seed, tf.zeros([1], tf.int64)], axis=0))


class RandomLayer(keras.layers.Layer):
    """Base of every layer that draws random numbers, whatever `training` says.

    A subclass writes `call` and draws only with keys from `next_key`. In return its
    draws are new at each call, replica and process; the counter is saved in `.keras`
    files, weights and checkpoints; an exported SavedModel takes a new seed whenever
    it is loaded; and inside `draw_scope` nothing is written at all.

    Args:
        seed: Integer in `[0, 2**31)` that starts the stream, or `None` for a seed
            governed by `keras.utils.set_random_seed`.
        **kwargs: `name`, `dtype` and the like; see `keras.layers.Layer`.

    Raises:
        ValueError: If `seed` is no such integer.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> layer.random_state.numpy()
    array([5, 0])
    """

    # A deterministic subclass sets this to False and carries no state. One whose
    # arguments decide calls `start_drawing` in its constructor.
    draws: bool = True

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = checked_seed(type(self).__name__, seed)
        if self.draws:
            self.start_drawing()
        card = card_of(self)
        if card is not None:
            self._card_asset = CardAsset(self, card)

    def start_drawing(self) -> None:
        """Adds the state of the random stream."""
        self.draws = True
        self.random_state = add_random_state(self, self.seed)
        self._seed_at_load = _SeedAtLoad(self.random_state)

    def next_key(self) -> tf.Tensor:
        """Returns the key for one draw, an int32 tensor of shape `(2,)`."""
        self._check_format()
        key = scope_key()
        return advance(self.random_state) if key is None else key

    def _check_format(self) -> None:
        """Raises in an export that could not draw anew in each call and process."""
        found = conversion_format()
        if found is not None:
            rule = "one in which a layer can draw random numbers"
            advice = 'Export a SavedModel, `format="tf_saved_model"`.'
            raise invalid(type(self).__name__, "format", rule, found, advice=advice)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def key_of_passes(model: keras.Model) -> tf.Tensor | None:
    """Returns one key for several passes of a model, which a loop can take apart.

    Inside a loop of a graph no layer can move its own counter where a strategy has
    several replicas.

    Args:
        model: A model with random layers of this package somewhere in it.

    Returns:
        The next key of the current `draw_scope`, outside that of the first random
        layer; `None` if there is neither.

    Example:

    >>> model = keras.Sequential([keras_advdef.layers.RandomNoise(0.1)])
    >>> keras_advdef.core.random_state.key_of_passes(model).shape
    TensorShape([2])
    """
    layers = (each for each in flat_layers(model) if isinstance(each, RandomLayer))
    first = next((each for each in layers if each.draws), None)
    return scope_key() if first is None else first.next_key()
