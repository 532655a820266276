"""load_for_serving: a model from a file, whose draws nobody can know beforehand."""

from pathlib import Path
from typing import Any

import keras

from keras_advdef.core.random_state import reseed


def load_for_serving(filepath: str | Path, **kwargs: Any) -> keras.Model:
    """Returns a model from a `.keras` file, its random layers on keys of their own.

    Which loader is for what:

    - `keras.models.load_model` goes on with the random streams where the file left
      them, so that training that is resumed draws as if it had never stopped. Whoever
      has the file can replay what such a model draws, and so do all servers that load
      it.
    - `load_for_serving` starts every random layer of this package anew, with 128 bits
      from the operating system, whatever `seed` it was made with. Two processes that
      load one file draw differently, and what they draw cannot be told from the file.

    `model.export` writes a SavedModel, which does the latter whenever it is loaded.

    Args:
        filepath: Where the file lies.
        **kwargs: `custom_objects`, `compile` and `safe_mode`; see
            `keras.models.load_model`.

    Example:

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> noise = keras_advdef.layers.RandomNoise(0.1, seed=5)
    >>> keras.Sequential([keras.Input((2,)), noise]).save(path)
    >>> keras.models.load_model(path).layers[0].random_state.numpy()
    array([0, 0, 5])
    >>> served = keras_advdef.models.load_for_serving(path)
    >>> bool(served.layers[0].random_state[2] == 5)
    False
    """
    model = keras.models.load_model(filepath, **kwargs)
    reseed(model)
    return model
