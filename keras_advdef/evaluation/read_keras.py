"""Reads Keras's model files that may be damaged or hostile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.untrusted import Refusal, check_regular, reading

# A file holds at least what its layers need; small ones may hold less, unbuilt parts.
_FREE_BYTES = 2**30
_SHARE_OF_FILE = 4


class _WeightBudget:
    """Stops layers that ask for far more weights than their file can hold.

    Args:
        most: Bytes of all weights together.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked = 0

    def __call__(self, create: Callable[..., Any], **arguments: Any) -> Any:
        """Counts a variable before it takes memory; see `tf.variable_creator_scope`."""
        initial = arguments.get("initial_value")
        if callable(initial):
            with tf.Graph().as_default():
                value = initial()
            self.asked += value.shape.num_elements() * value.dtype.size
        if self.asked > self.most:
            raise MemoryError("its layers ask for more weights than the file holds")
        return create(**arguments)


def read_keras(path: Path, refuse: Refusal) -> Any:
    """Returns what lies in a `.keras` or `.h5` file.

    Args:
        path: Where the file lies.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.evaluation.read_keras import read_keras
    >>> path = Path(tempfile.mkdtemp()) / "model.keras"
    >>> keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)
    >>> read_keras(path, ValueError).output_shape
    (None, 3)
    """
    check_regular(path, refuse)
    budget = _WeightBudget(_FREE_BYTES + _SHARE_OF_FILE * path.stat().st_size)
    advice = (
        "Keras says: {}. A model with layers of your own is loaded in Python, with "
        "`custom_objects`, and given to `evaluate_robustness`."
    )
    with reading(refuse, advice), tf.variable_creator_scope(budget):
        return keras.saving.load_model(path, compile=False)
