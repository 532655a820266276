"""Reads `.npz` files that may be damaged or hostile."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_advdef.core.errors import shortened
from keras_advdef.core.untrusted import Refusal, check_memory, opened, reading

_SUFFIX = ".npy"
_LISTED = 10
_LONGEST_NAME = 40
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(
    path: Path, refuse: Refusal, *, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of a `.npz` file.

    Objects are never unpickled, and no more memory is taken than the members of the
    archive fill.

    Args:
        path: Where the file lies.
        refuse: Makes the error to raise from a sentence.
        names: The arrays that must be there and are read; `None` for all.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.npz import read_npz
    >>> path = Path(tempfile.mkdtemp()) / "arrays.npz"
    >>> np.savez(path, ones=np.ones(2))
    >>> read_npz(path, ValueError)
    {'ones': array([1., 1.])}
    """
    with opened(path, refuse) as file:
        return arrays_in(file, refuse, names=names)


def arrays_in(
    file: BinaryIO, refuse: Refusal, *, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of an open `.npz` file, as `read_npz`.

    Args:
        file: The file, or its bytes in a `BytesIO`.
        refuse: Makes the error to raise from a sentence.
        names: The arrays that must be there and are read; `None` for all.

    Raises:
        Exception: What `refuse` made.
    """
    with reading(
        refuse, "It is no complete archive ({}); write it again with `np.savez`."
    ):
        archive = zipfile.ZipFile(file)
    members = _members(archive, refuse)
    chosen = list(members) if names is None else list(names)
    missing = [name for name in chosen if name not in members]
    if missing:
        held = ", ".join(map(_short, list(members)[:_LISTED])) or "nothing"
        raise refuse(f"It lacks {', '.join(missing)} and holds {held}.")
    total = sum(members[name].file_size for name in chosen)
    check_memory(total, "What it holds", refuse)
    return {name: _read(archive, members[name], refuse) for name in chosen}


def _members(archive: zipfile.ZipFile, refuse: Refusal) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(_SUFFIX)
        if name in members:
            raise refuse(f"It holds {_short(name)} twice.")
        members[name] = info
    return members


def _short(name: str) -> str:
    """A name as a sentence can hold it: an archive may give 65 000 letters."""
    return shortened(name, _LONGEST_NAME)


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, refuse: Refusal
) -> np.ndarray:
    name = info.filename.removesuffix(_SUFFIX)
    advice = f"{_short(name)} cannot be read ({{}}); write plain numbers again."
    with reading(refuse, advice), archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError("its header is of a version for no plain numbers")
        shape, _, dtype = _HEADERS[version](file)
        held = info.file_size - file.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if not dtype.itemsize:
            raise ValueError("its elements have no bytes")
        if not dtype.hasobject and claimed != held:
            raise ValueError(f"its header claims {claimed} bytes, and it has {held}")
        file.seek(0, os.SEEK_SET)
        return np.lib.format.read_array(file, allow_pickle=False)
