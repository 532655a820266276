"""Reads Keras's model files that may be damaged or hostile."""

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

# A file holds at least what its layers need; small ones may hold less, unbuilt parts.
_FREE_BYTES = 2**30
# Keras does not compress weights; others may.
_FREE_STORED = 2**28
_SHARE_OF_FILE = 4
_WEIGHTS = "model.weights.h5"
_HDF5 = b"\x89HDF\r\n\x1a\n"


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


def _check_contents(file: BinaryIO, size: int, refuse: Refusal) -> None:
    """Raises where members of a `.keras` file are hidden, or anything is too large."""
    with read_errors_as(refuse, "It is no complete archive ({})."):
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
    """Yields the bytes that each array in an HDF5 file takes once it is read."""
    seen, waiting = set(), [root]
    while waiting:
        group = waiting.pop()
        for name in group:
            # Keras follows no other links.
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
    >>> from keras_advdef.evaluation._request.read_keras import read_keras
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
        "Keras says: {}. A model with layers of your own is loaded in Python, with "
        "`custom_objects`, and given to `evaluate_robustness`."
    )
    with read_errors_as(refuse, advice), tf.variable_creator_scope(budget):
        return keras.saving.load_model(path, compile=False)
