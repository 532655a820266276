"""A copy of a model with variables of its own."""

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
    """Returns a model of the same layers, each with what the original's has learnt.

    `set_weights` would not do: `Normalization` computes with more than its weights,
    and layers that were adapted have weights of other shapes than new ones.

    Args:
        model: A built Sequential or functional model.
        kinds: Layers of these classes are as the original's; all others start anew.

    Returns:
        A new model that shares nothing with the old one.

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
    """Gives a layer what another one of its kind has learnt or was adapted to.

    Args:
        old: A built layer; what lies in it is left out.
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
    """Lets Keras copy a model without its loss, which it may not be able to copy.

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
    """Compiles a model as another one, if that can be made anew, and returns it.

    Args:
        new: The model to compile.
        model: A model that may be compiled.

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
            # Keras warns of files with functions that have no name; there is none.
            warnings.simplefilter("ignore")
            new.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError):
        # A function without a name, or one that Keras knows nothing of.
        new.compiled = False
    return new
