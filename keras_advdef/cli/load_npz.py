"""Reads `.npz` files in the layout of keras.datasets."""

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_advdef.cli.dataset import Dataset
from keras_advdef.core.errors import invalid

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_RULE = "a .npz file with the arrays x_train, y_train, x_test and y_test"


def _rejected(spec: str, advice: str) -> ValueError:
    return invalid("keras-advdef", "--data", _RULE, spec, advice=advice)


def _read_arrays(spec: str, file: BinaryIO) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as archive:
        missing = [key for key in _KEYS if key not in archive.files]
        if missing:
            held = ", ".join(archive.files) or "nothing"
            raise _rejected(spec, f"It lacks {', '.join(missing)} and holds {held}.")
        try:
            return {key: archive[key] for key in _KEYS}
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            advice = f"An array cannot be read ({error}); write plain numbers again."
            raise _rejected(spec, advice) from error


def _opened(spec: str) -> BinaryIO:
    try:
        return Path(spec).open("rb")
    except OSError as error:
        advice = f"It cannot be opened: {error.strerror}."
        raise _rejected(spec, advice) from error


def load_npz(spec: str) -> Dataset:
    """Loads a data set from a `.npz` file.

    Pickled objects are never read.

    Args:
        spec: Path of the file.

    Returns:
        The data set, named by `spec`.

    Raises:
        ValueError: If the file cannot be opened, is broken, lacks an array, holds
            objects, or the arrays do not fit together.
    """
    with _opened(spec) as file:
        if not zipfile.is_zipfile(file):
            advice = "It is no complete archive; write it again with `np.savez`."
            raise _rejected(spec, advice)
        file.seek(0)
        arrays = _read_arrays(spec, file)
    return Dataset.from_arrays(spec, **arrays)
