"""RandomLayer: saved, replica-aware randomness, and the scope that overrides it."""

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
    """An active `draw_scope`: its key, and how many draws it has served."""

    def __init__(self, key: tf.Tensor) -> None:
        self.key = key
        self.draws = 0


@contextlib.contextmanager
def draw_scope(key: tf.Tensor) -> Iterator[None]:
    """Makes random layers draw from `key` instead of their saved state.

    Attacks and evaluations call models only inside such a scope: no variable changes,
    and the same key gives the same result. The scope holds in one thread, and only in
    the function that enters it: a `tf.function` traced inside would otherwise repeat
    its draws forever. To draw in such a function, pass it the key and enter the scope
    there.

    Args:
        key: Int64 tensor of shape `(2,)`, from `make_key` or `fold_in` in
            `keras_advdef.core.random_numbers`.

    Yields:
        Nothing; call the model in the body.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key
    >>> from keras_advdef.core import draw_scope
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
    """Returns the next key of the current `draw_scope`, or `None` outside of one.

    Draws are numbered in their order. So a rebuilt model draws the same whatever the
    names of its layers, and a layer that is called twice does not repeat itself. Each
    replica of a strategy draws differently.

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


def checked_seed(owner: str, seed: object) -> int | None:
    """Returns a seed, or raises if it is not valid.

    Args:
        owner: Name of the class that takes it.
        seed: Integer in `[0, 2**31)`, or `None`.

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
    """Base of layers that draw random numbers, in training and at inference.

    A subclass writes `call` and takes a key from `next_key` for every draw. In return,
    draws differ between calls, threads, replicas and forked processes.

    - `.keras` files, weights and checkpoints save the state of the stream, so resumed
      training draws as if it had never stopped. Load such a file for serving with
      `models.load_for_serving`, or every copy draws the same numbers.
    - An exported SavedModel takes a fresh state from the operating system whenever it
      is loaded.
    - Inside a `draw_scope`, keys come from the scope and the state does not change.

    A subclass that never draws sets the class attribute `draws = False` and has no
    state. If the arguments decide whether it draws, set `draws = False` too, and
    call `start_drawing` in the constructor when it does.

    Args:
        seed: Integer in `[0, 2**31)` that starts the stream; `None` for a seed
            controlled by `keras.utils.set_random_seed`.
        **kwargs: `name`, `dtype` and others; see `keras.layers.Layer`.

    Raises:
        ValueError: If `seed` is neither such an integer nor `None`.

    Example:

    >>> from keras_advdef.core.random_numbers import uniform
    >>> class RandomBrightness(keras_advdef.core.RandomLayer):
    ...     def call(self, images):
    ...         shift = uniform(self.next_key(), [tf.shape(images)[0], 1, 1, 1])
    ...         return images + 0.1 * shift
    >>> layer = RandomBrightness(seed=5)
    >>> images = np.zeros((1, 2, 2, 1), "float32")
    >>> bool(np.all(layer(images) == layer(images)))
    False
    >>> layer.random_state.numpy()
    array([512,   0,   5])
    """

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
        """Adds the state of the random stream to the layer."""
        self.draws = True
        self.random_state = add_random_state(self, self.seed)
        self._fresh_at_load = FreshAtLoad(self.random_state.value)

    def next_key(self) -> tf.Tensor:
        """Returns a key for one draw, an int64 tensor of shape `(2,)`.

        Pass it to `uniform`, `normal` or `integers` in
        `keras_advdef.core.random_numbers`, or split it with `fold_in`.
        """
        self._check_format()
        key = scope_key()
        return next_stream_key(self.random_state) if key is None else key

    def _check_format(self) -> None:
        """Raises in an export to a format that cannot draw fresh numbers."""
        found = conversion_format()
        if found is not None:
            rule = "a format in which layers can draw random numbers"
            advice = 'Export a SavedModel, `format="tf_saved_model"`.'
            raise invalid(type(self).__name__, "format", rule, found, advice=advice)

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(upgrade_random_states(store))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def reseed(model: keras.layers.Layer) -> None:
    """Restarts the stream of every random layer from system entropy.

    Use it before serving a model that was trained in this process or whose weights were
    restored; `models.load_for_serving` does it for a `.keras` file.

    Args:
        model: A model that contains random layers of this package.

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
    """Returns one key for several passes of a model, to be split with `fold_in`.

    Args:
        model: A model that may contain random layers of this package.

    Returns:
        The next key of the first random layer, or of the current `draw_scope` if there
        is no such layer; `None` if there is neither.

    Example:

    >>> model = keras.Sequential([keras_advdef.layers.RandomNoise(0.1)])
    >>> keras_advdef.core.random_state.shared_pass_key(model).shape
    TensorShape([2])
    """
    first = next(iter(_drawing_layers(model)), None)
    return scope_key() if first is None else first.next_key()
