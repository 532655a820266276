"""Copies of models, with their own variables and what the original has learnt."""

import contextlib
import types
import warnings
from collections.abc import Iterator

import keras

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.keras_training import compiled_loss


def duplicate(
    model: keras.Model, *, kinds: tuple[type, ...] = (keras.layers.Layer,)
) -> keras.Model:
    """Returns a copy of a model: new layers with the state of the original's.

    `set_weights` would not be enough: `Normalization` computes with more than its
    weights, and adapted layers have weights of other shapes than new ones.

    Args:
        model: A built Sequential or functional model.
        kinds: Classes of layers whose state is copied; all others start fresh.

    Returns:
        A new model that shares nothing with the original.

    Example:

    >>> layer = keras.layers.Normalization()
    >>> layer.adapt(np.array([[1.0], [3.0]]))
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> from keras_advdef.core.duplicate import duplicate
    >>> duplicate(model)(np.array([[3.0]])).numpy().item()
    1.0
    """
    with uncompiled(model):
        copy = keras.models.clone_model(model)
    pairs = zip(flat_layers(model), flat_layers(copy), strict=True)
    for old, new in pairs:
        if isinstance(old, kinds):
            copy_state(old, new)
    return compile_like(copy, model)


def copy_state(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copies what a layer has learnt or was adapted to into another one.

    Args:
        old: A built layer; its sublayers are not copied.
        new: A layer of the same configuration.

    Example:

    >>> layer = keras.layers.Normalization()
    >>> layer.adapt(np.array([[1.0], [3.0]]))
    >>> new = keras.layers.Normalization.from_config(layer.get_config())
    >>> new.build((None, 1))
    >>> keras_advdef.core.duplicate.copy_state(layer, new)
    >>> new(np.array([[3.0]])).numpy().item()
    1.0
    """
    store: dict[str, object] = {}
    old.save_own_variables(store)
    if store:
        new.load_own_variables(store)


@contextlib.contextmanager
def uncompiled(model: keras.Model) -> Iterator[None]:
    """Marks a model as not compiled, so that Keras copies it without its loss.

    Args:
        model: Any model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", loss=lambda labels, outputs: outputs)
    >>> from keras_advdef.core.duplicate import uncompiled
    >>> with uncompiled(model):
    ...     copy = keras.models.clone_model(model)
    """
    before = model.compiled
    model.compiled = False
    try:
        yield
    finally:
        model.compiled = before


def compile_like(new: keras.Model, model: keras.Model) -> keras.Model:
    """Compiles a model like another one, if its configuration allows, and returns it.

    Args:
        new: The model to compile.
        model: The other model, compiled or not.

    Example:

    >>> first, second = (
    ...     keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in "ab")
    >>> first.compile("sgd", "mse")
    >>> from keras_advdef.core.duplicate import compile_like
    >>> compile_like(second, first).loss
    'mse'
    """
    if not model.compiled:
        return new
    loss = compiled_loss(model)
    known = {loss.__name__: loss} if isinstance(loss, types.FunctionType) else {}
    try:
        with keras.saving.custom_object_scope(known), warnings.catch_warnings():
            # Keras warns that unnamed functions cannot be saved; nothing is saved.
            warnings.simplefilter("ignore")
            new.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError):
        # A function without a name, or one unknown to Keras.
        new.compiled = False
    return new
