"""Reads Keras's model files that may be damaged or hostile."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.untrusted import Refusal, check_memory, opened, reading

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


def _check_archive(archive: zipfile.ZipFile, refuse: Refusal) -> None:
    """Raises where members of a `.keras` file are hidden, or too large."""
    members = archive.infolist()
    names = {info.filename for info in members}
    if len(names) < len(members):
        raise refuse("One of its parts lies in it twice.")
    check_memory(sum(info.file_size for info in members), "What it holds", refuse)


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
    with opened(path, refuse) as file:
        size = os.fstat(file.fileno()).st_size
        check_memory(size, "It", refuse)
        with reading(refuse, "It is no complete archive ({})."):
            if zipfile.is_zipfile(file):
                _check_archive(zipfile.ZipFile(file), refuse)
    budget = _WeightBudget(_FREE_BYTES + _SHARE_OF_FILE * size)
    advice = (
        "Keras says: {}. A model with layers of your own is loaded in Python, with "
        "`custom_objects`, and given to `evaluate_robustness`."
    )
    with reading(refuse, advice), tf.variable_creator_scope(budget):
        return keras.saving.load_model(path, compile=False)
