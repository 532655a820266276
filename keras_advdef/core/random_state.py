"""Saved, replica-aware randomness for layers, and the scope that replaces it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core._function_scope import FunctionScope
from keras_advdef.core.cards import CardAsset, card_of
from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.keras_private import conversion_format, flat_layers
from keras_advdef.core.random_numbers import SEED_LIMIT, fold_in
from keras_advdef.core.random_stream import (
    FreshAtLoad,
    add_random_state,
    fresh_state,
    next_stream_key,
    replica_id,
    upgrade_random_states,
)

_scope = FunctionScope()


class _DrawScope:
    """One entered `draw_scope`: its key, and how many draws it has served."""

    def __init__(self, key: tf.Tensor) -> None:
        self.key = key
        self.draws = 0


@contextlib.contextmanager
def draw_scope(key: tf.Tensor) -> Iterator[None]:
    """Makes random layers draw from `key` and leave their saved counter alone.

    Attacks and evaluation call models only inside such a scope, so that they change
    no variable and give the same result for the same key. The scope ends at the bounds
    of the thread and of the function that is being traced, if any: what a `tf.function`
    draws that is traced within would otherwise stay the same for ever. Enter the scope
    in the function, and hand it the key.

    Args:
        key: Int64 tensor of shape `(2,)`, from `make_key` or `fold_in`.

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
    with _scope.holding(_DrawScope(key)):
        yield


def scope_key() -> tf.Tensor | None:
    """Returns the next key of the current `draw_scope`, or `None` outside.

    Draws are told apart by their order, so that a model built again, under whatever
    names, draws the same, and a layer that is called twice does not repeat itself.
    Replicas of a strategy differ.

    Returns:
        Int64 tensor of shape `(2,)`, or `None`.

    Example:

    >>> keras_advdef.core.random_state.scope_key() is None
    True
    """
    scope = _scope.value()
    if scope is None:
        return None
    scope.draws += 1
    return fold_in(fold_in(scope.key, scope.draws), replica_id())


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


class RandomLayer(keras.layers.Layer):
    """Base of every layer that draws random numbers, whatever `training` says.

    A subclass writes `call` and draws only with keys from `next_key`. In return its
    draws are new at each call, in each thread and replica, and in a forked process.
    The state of its stream is saved in `.keras` files, weights and checkpoints, so that
    training that is resumed with `keras.models.load_model` draws as if it had never
    stopped. To serve such a file, load it with `models.load_for_serving`: what is
    resumed draws what any other copy draws. An exported SavedModel takes a new state
    from the operating system whenever it is loaded. Inside `draw_scope` nothing is
    written at all.

    Args:
        seed: Integer in `[0, 2**31)` that starts the stream, or `None` for a seed
            governed by `keras.utils.set_random_seed`.
        **kwargs: `name`, `dtype` and the like; see `keras.layers.Layer`.

    Raises:
        ValueError: If `seed` is no such integer.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> layer.random_state.numpy()
    array([0, 0, 5])
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
        self._fresh_at_load = FreshAtLoad(self.random_state.value)

    def next_key(self) -> tf.Tensor:
        """Returns the key for one draw, an int64 tensor of shape `(2,)`."""
        self._check_format()
        key = scope_key()
        return next_stream_key(self.random_state) if key is None else key

    def _check_format(self) -> None:
        """Raises in an export that could not draw anew in each call and process."""
        found = conversion_format()
        if found is not None:
            rule = "one in which a layer can draw random numbers"
            advice = 'Export a SavedModel, `format="tf_saved_model"`.'
            raise invalid(type(self).__name__, "format", rule, found, advice=advice)

    def load_own_variables(self, store: Any) -> None:
        """Loads all variables."""
        super().load_own_variables(upgrade_random_states(store))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def reseed(model: keras.layers.Layer) -> None:
    """Starts the stream of every random layer anew, from the system's entropy.

    For who serves a model that was trained in this process, or whose weights were
    restored; `models.load_for_serving` does it with a `.keras` file.

    Args:
        model: A model with random layers of this package somewhere in it.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> keras_advdef.core.random_state.reseed(layer)
    >>> bool(layer.random_state[2] == 5)
    False
    """
    for layer in _drawing_layers(model):
        layer.random_state.assign(fresh_state())


def _drawing_layers(model: keras.layers.Layer) -> list[RandomLayer]:
    layers = [each for each in flat_layers(model) if isinstance(each, RandomLayer)]
    return [each for each in layers if each.draws]


def shared_pass_key(model: keras.Model) -> tf.Tensor | None:
    """Returns one key for several passes of a model, which a loop can take apart.

    Args:
        model: A model with random layers of this package somewhere in it.

    Returns:
        The next key of the current `draw_scope`, outside that of the first random
        layer; `None` if there is neither.

    Example:

    >>> model = keras.Sequential([keras_advdef.layers.RandomNoise(0.1)])
    >>> keras_advdef.core.random_state.shared_pass_key(model).shape
    TensorShape([2])
    """
    first = next(iter(_drawing_layers(model)), None)
    return scope_key() if first is None else first.next_key()
