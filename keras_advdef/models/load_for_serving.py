"""load_for_serving: loads a model whose random draws nobody can predict."""

from pathlib import Path
from typing import Any

import keras

from keras_advdef.core.random_state import reseed


def load_for_serving(filepath: str | Path, **kwargs: Any) -> keras.Model:
    """Returns a model from a `.keras` file, with fresh keys in its random layers.

    When to use which loader:

    - `keras.models.load_model` continues the random streams where the file left them,
      so that resumed training draws as if it had never stopped. Anyone with the file
      can replay the model's draws, and all servers that load it draw the same.
    - `load_for_serving` gives every random layer of this package a fresh key of 128
      bits from the operating system, whatever its `seed`. Two processes that load one
      file draw differently, and the file does not reveal what they draw.

    A SavedModel from `model.export` draws fresh keys whenever it is loaded.

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
