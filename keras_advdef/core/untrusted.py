"""Safe reading of untrusted files.

Format libraries raise almost any error on a damaged or hostile file, and allocate all
the memory that its header claims. Readers here run inside `read_errors_as` and check
sizes before they allocate.
"""

import contextlib
import io
import json
import lzma
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_advdef.core.text import printable, shortened, size_text

# Maps a sentence about what is wrong with a file to the error to raise.
Refusal = Callable[[str], Exception]

# Seen from NumPy, Pillow, h5py, Keras, TensorFlow and the standard library on damaged
# files. RuntimeError includes NotImplementedError and RecursionError; ValueError
# includes all errors of Unicode and JSON.
_RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    DecodeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    SystemError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tf.errors.OpError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_LONGEST_REASON = 300
# Far above the size and nesting of our own files.
_LARGEST_JSON = 2**24
_DEEPEST_JSON = 100
# Some hundred bytes for each of a million images.
_LARGEST_TEXT = 2**28
_MEMORY_SHARE = 0.5
_UNKNOWN_MEMORY = 8 * 2**30
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SUFFIX = ".npy"
_INCOMPLETE = "It is not a complete archive ({}); write it again with `np.savez`."
# A member of an archive begins with so many bytes; two lengths close them.
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, 26
_LISTED = 10
_LONGEST_NAME = 40
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextlib.contextmanager
def read_errors_as(
    refuse: Refusal,
    advice: str,
    *,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turns any error of a format library into an error of the caller.

    Args:
        refuse: Maps a sentence to the error to raise.
        advice: The sentence, with `{}` in place of the library's message.
        also: Further error types, of libraries that may not be installed.

    Yields:
        Nothing; read the file in the body.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> from keras_advdef.core.untrusted import read_errors_as
    >>> with read_errors_as(ValueError, "It is not a number ({})."):
    ...     int("one")
    Traceback (most recent call last):
    ...
    ValueError: It is not a number (invalid literal for int() with base 10: 'one').
    """
    try:
        yield
    except (*_RAISED, *also) as error:
        raise refuse(advice.replace("{}", error_reason(error))) from error


def error_reason(error: BaseException) -> str:
    """Returns the message of an error, as one short line.

    Args:
        error: Any error.

    Example:

    >>> keras_advdef.core.untrusted.error_reason(MemoryError())
    'MemoryError'
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    text = " ".join(text.split()).rstrip(".")
    return printable(shortened(text, _LONGEST_REASON)) or type(error).__name__


def memory_budget() -> int:
    """Returns the memory that a file's contents may take, in bytes: half of all.

    Example:

    >>> keras_advdef.core.untrusted.memory_budget() > 2**20
    True
    """
    memory = _UNKNOWN_MEMORY
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # Not on Windows.
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Fails outside of containers, and in those without a limit.
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(_CONTAINER_LIMIT.read_text(encoding="ascii")))
    return int(_MEMORY_SHARE * memory)


def check_memory(needed: int, what: str, refuse: Refusal) -> None:
    """Raises if something would take more memory than `memory_budget`.

    Args:
        needed: Bytes, according to a header.
        what: What needs them, as the subject of a sentence.
        refuse: Maps a sentence to the error to raise.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> keras_advdef.core.untrusted.check_memory(8, "It", ValueError)
    """
    budget = memory_budget()
    if needed > budget:
        raise refuse(
            f"{what} would take {size_text(needed)}; the limit is {size_text(budget)}."
        )


def check_regular_file(path: Path, refuse: Refusal) -> None:
    """Raises unless a path leads to a regular file, without opening it.

    Opening a pipe would wait for a writer, and reading a device never ends.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.

    Raises:
        Exception: The error from `refuse`.
    """
    with read_errors_as(refuse, "It cannot be opened: {}."):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise refuse("It is not a regular file.")


@contextlib.contextmanager
def open_regular_file(path: Path, refuse: Refusal) -> Iterator[io.BufferedReader]:
    """Opens a regular file for reading.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.

    Yields:
        The open file.

    Raises:
        Exception: The error from `refuse`.
    """
    check_regular_file(path, refuse)
    with read_errors_as(refuse, "It cannot be opened: {}."):
        file = path.open("rb")
    with file:
        yield file


def read_json(path: Path, refuse: Refusal) -> Any:
    """Returns the values of a strict JSON file.

    Python accepts more than JSON allows. Here NaN, infinity, numbers beyond all floats
    and unpaired Unicode surrogates are refused, and so is a name that occurs twice in
    an object.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "values.json"
    >>> _ = path.write_text("[1, 2]")
    >>> keras_advdef.core.untrusted.read_json(path, ValueError)
    [1, 2]
    """
    text = read_text(path, refuse, most=_LARGEST_JSON)
    with read_errors_as(refuse, "It is not JSON ({})."):
        values = json.loads(text, object_pairs_hook=_named_once)
        _check_values(values)
    return values


def read_text(path: Path, refuse: Refusal, *, most: int = _LARGEST_TEXT) -> str:
    """Returns the contents of a UTF-8 text file.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.
        most: Largest size in bytes.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("a,b")
    >>> keras_advdef.core.untrusted.read_text(path, ValueError)
    'a,b'
    """
    with open_regular_file(path, refuse) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise refuse(f"It is larger than {size_text(most)}.")
        with read_errors_as(refuse, "It is not UTF-8 text ({})."):
            return file.read(size).decode("utf-8")


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return values


def _check_values(values: object) -> None:
    """Raises if values are nested too deeply or are not strict JSON."""
    layer, depth = [values], 0
    while layer:
        below: list[Any] = []
        for value in layer:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                value.encode("utf-8")
            elif isinstance(value, (int, float)) and not math.isfinite(value):
                raise ValueError("a number is not finite")
        layer, depth = below, depth + 1
        if depth > _DEEPEST_JSON:
            raise ValueError(f"it is nested more than {_DEEPEST_JSON} times")


def read_npz(
    path: Path, refuse: Refusal, *, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of a `.npz` file.

    Nothing is unpickled, and memory is allocated only for bytes that the archive really
    holds.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.
        names: Names of the arrays to read, all required; `None` for all there are.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.untrusted import read_npz
    >>> path = Path(tempfile.mkdtemp()) / "arrays.npz"
    >>> np.savez(path, ones=np.ones(2))
    >>> read_npz(path, ValueError)
    {'ones': array([1., 1.])}
    """
    with open_regular_file(path, refuse) as file:
        return read_npz_stream(file, refuse, names=names)


def read_npz_stream(
    file: BinaryIO, refuse: Refusal, *, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of an open `.npz` file; see `read_npz`.

    Args:
        file: The open file, or a `BytesIO` of its bytes.
        refuse: Maps a sentence to the error to raise.
        names: Names of the arrays to read, all required; `None` for all there are.

    Raises:
        Exception: The error from `refuse`.
    """
    with read_errors_as(refuse, _INCOMPLETE):
        archive = zipfile.ZipFile(file)
    chosen = _chosen(archive, refuse, names)
    check_memory(
        sum(each.file_size for each in chosen.values()), "What it holds", refuse
    )
    return {name: _read(archive, each, refuse) for name, each in chosen.items()}


def _chosen(
    archive: zipfile.ZipFile, refuse: Refusal, names: Sequence[str] | None
) -> dict[str, zipfile.ZipInfo]:
    members = _members(archive, refuse)
    chosen = list(members) if names is None else list(names)
    missing = [name for name in chosen if name not in members]
    if missing:
        held = ", ".join(map(_short, list(members)[:_LISTED])) or "nothing"
        raise refuse(f"It lacks {', '.join(missing)} and holds {held}.")
    return {name: members[name] for name in chosen}


def _members(archive: zipfile.ZipFile, refuse: Refusal) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(_SUFFIX)
        if name in members:
            raise refuse(f"It holds {_short(name)} twice.")
        members[name] = info
    return members


def _short(name: str) -> str:
    """Shortens a name for a sentence: archives allow 65 000 characters."""
    return shortened(name, _LONGEST_NAME)


def map_npz(path: Path, refuse: Refusal, *, names: Sequence[str]) -> list[np.ndarray]:
    """Returns arrays of a `.npz` file that stay on disk until their rows are read.

    That is possible for what `np.savez` wrote; what is compressed is read into memory.

    Args:
        path: Path of the file.
        refuse: Maps a sentence to the error to raise.
        names: Names of the arrays, all required.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.untrusted import map_npz
    >>> path = Path(tempfile.mkdtemp()) / "arrays.npz"
    >>> np.savez(path, ones=np.ones(2))
    >>> map_npz(path, ValueError, names=["ones"])
    [memmap([1., 1.])]
    """
    with open_regular_file(path, refuse) as file:
        with read_errors_as(refuse, _INCOMPLETE):
            archive = zipfile.ZipFile(file)
        members = _chosen(archive, refuse, names)
        mapped = [_mapped(file, members[name], refuse) for name in names]
        found = dict(zip(names, mapped, strict=True))
        others = [members[name] for name in names if found[name] is None]
        check_memory(sum(each.file_size for each in others), "What it holds", refuse)
        return [
            _read(archive, members[name], refuse) if array is None else array
            for name, array in found.items()
        ]


def _mapped(
    file: BinaryIO, info: zipfile.ZipInfo, refuse: Refusal
) -> np.ndarray | None:
    """Returns an array of a file on disk, `None` if it is not stored as it is."""
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with read_errors_as(refuse, _advice(info)):
        file.seek(info.header_offset + _LOCAL_LENGTHS)
        start = info.header_offset + _LOCAL_HEADER
        start += sum(struct.unpack("<2H", file.read(4)))
        file.seek(start)
        shape, in_columns, dtype = _header(file, info, start)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        order: Any = "F" if in_columns else "C"
        return np.memmap(file, dtype, "r", file.tell(), shape, order)


def _advice(info: zipfile.ZipInfo) -> str:
    name = info.filename.removesuffix(_SUFFIX)
    return f"{_short(name)} cannot be read ({{}}); write plain numbers again."


def _header(
    file: IO[bytes], info: zipfile.ZipInfo, start: int = 0
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, order and type of the array that begins where a file stands."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError("its header has a version that plain numbers do not use")
    shape, in_columns, dtype = _HEADERS[version](file)
    held = info.file_size - (file.tell() - start)
    claimed = math.prod(shape) * dtype.itemsize
    if not dtype.itemsize:
        raise ValueError("its elements have no bytes")
    if not dtype.hasobject and claimed != held:
        raise ValueError(f"its header claims {claimed} bytes, but it has {held}")
    return shape, in_columns, dtype


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, refuse: Refusal
) -> np.ndarray:
    with read_errors_as(refuse, _advice(info)), archive.open(info) as file:
        _header(file, info)
        file.seek(0, os.SEEK_SET)
        return np.lib.format.read_array(file, allow_pickle=False)
