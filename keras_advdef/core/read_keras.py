"""read_keras: reads Keras's model files, which may be damaged or hostile."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import keras
import tensorflow as tf

from keras_advdef.core.untrusted import (
    Refusal,
    check_memory,
    open_regular_file,
    read_errors_as,
)

# Layers must not need more than their file holds, except in small, unbuilt models.
_FREE_BYTES = 2**30
# Keras does not compress weights, but other tools may.
_FREE_STORED = 2**28
_SHARE_OF_FILE = 4
_WEIGHTS = "model.weights.h5"
_HDF5 = b"\x89HDF\r\n\x1a\n"


class _WeightBudget:
    """Stops layers that ask for far more weights than their file can hold.

    Args:
        most: Largest size of all weights together, in bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked = 0

    def __call__(self, create: Callable[..., Any], **arguments: Any) -> Any:
        """Counts a variable before it uses memory; see `tf.variable_creator_scope`."""
        initial = arguments.get("initial_value")
        if callable(initial):
            with tf.Graph().as_default():
                value = initial()
            self.asked += value.shape.num_elements() * value.dtype.size
        if self.asked > self.most:
            raise MemoryError("its layers ask for more weights than the file holds")
        return create(**arguments)


def _check_contents(file: BinaryIO, size: int, refuse: Refusal) -> None:
    """Raises if a `.keras` file has hidden members, or anything too large."""
    with read_errors_as(refuse, "It is not a complete archive ({})."):
        archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None
    if archive is not None:
        _check_members(archive, refuse)
        if _WEIGHTS not in archive.namelist():
            return
        with read_errors_as(refuse, "Its weights cannot be read ({})."):
            file = io.BytesIO(archive.read(_WEIGHTS))
    file.seek(0)
    if file.read(len(_HDF5)) != _HDF5:
        return
    with (
        read_errors_as(refuse, "Its weights cannot be read ({})."),
        h5py.File(file, "r") as root,
    ):
        stored = sum(_stored(root))
    if stored > _FREE_STORED + _SHARE_OF_FILE * size:
        advice = "Its weights are far larger than the file; save it again with Keras."
        raise refuse(advice)


def _stored(root: h5py.Group) -> Iterator[int]:
    """Yields the size in memory, in bytes, of each array in an HDF5 file."""
    seen, waiting = set(), [root]
    while waiting:
        group = waiting.pop()
        for name in group:
            # Keras does not follow other links.
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address not in seen and isinstance(found, h5py.Group):
                waiting.append(found)
            elif address not in seen and isinstance(found, h5py.Dataset):
                yield found.nbytes
            seen.add(address)


def _check_members(archive: zipfile.ZipFile, refuse: Refusal) -> None:
    members = archive.infolist()
    names = {info.filename for info in members}
    if len(names) < len(members):
        raise refuse("One of its parts appears twice.")
    check_memory(sum(info.file_size for info in members), "What it holds", refuse)


def read_keras(path: Path, refuse: Refusal) -> Any:
    """Returns the model in a `.keras` or `.h5` file.

    Args:
        path: The file.
        refuse: Turns a sentence into the error to raise.

    Raises:
        Exception: The error made by `refuse`, if the file cannot be loaded.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.read_keras import read_keras
    >>> path = Path(tempfile.mkdtemp()) / "model.keras"
    >>> keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)
    >>> read_keras(path, ValueError).output_shape
    (None, 3)
    """
    with open_regular_file(path, refuse) as file:
        size = os.fstat(file.fileno()).st_size
        check_memory(size, "It", refuse)
        _check_contents(file, size, refuse)
    budget = _WeightBudget(_FREE_BYTES + _SHARE_OF_FILE * size)
    advice = (
        "Keras says: {}. Load a model with custom layers in Python, with "
        "`custom_objects`, and pass it to `evaluate_robustness`."
    )
    with read_errors_as(refuse, advice), tf.variable_creator_scope(budget):
        return keras.saving.load_model(path, compile=False)
