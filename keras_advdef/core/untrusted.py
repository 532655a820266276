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
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_advdef.core.text import printable, shortened, size_text

# Built from a sentence that says what is wrong with a file.
Refusal = Callable[[str], Exception]

# What NumPy, Pillow, h5py, Keras, TensorFlow and the standard library have been seen to
# raise on files that are not what they claim. RuntimeError holds NotImplementedError
# and RecursionError, ValueError every fault of Unicode and JSON.
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
# None of our files comes near in size, or in how deep lists lie in lists.
_LARGEST_JSON = 2**24
_DEEPEST_JSON = 100
_MEMORY_SHARE = 0.5
_UNKNOWN_MEMORY = 8 * 2**30
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@contextlib.contextmanager
def read_errors_as(
    refuse: Refusal,
    advice: str,
    *,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turns whatever a format's library raises into a refusal of the file.

    Args:
        refuse: Makes the error to raise from a sentence.
        advice: The sentence, with `{}` for what the library said.
        also: Errors of a library that is not always installed.

    Yields:
        Nothing; the library reads in the body.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> from keras_advdef.core.untrusted import read_errors_as
    >>> with read_errors_as(ValueError, "It is no number ({})."):
    ...     int("one")
    Traceback (most recent call last):
    ...
    ValueError: It is no number (invalid literal for int() with base 10: 'one').
    """
    try:
        yield
    except (*_RAISED, *also) as error:
        raise refuse(advice.replace("{}", error_reason(error))) from error


def error_reason(error: BaseException) -> str:
    """Returns what an error says, in one line that is not long.

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
    """Returns how many bytes the contents of a file may take: half the memory.

    Example:

    >>> keras_advdef.core.untrusted.memory_budget() > 2**20
    True
    """
    memory = _UNKNOWN_MEMORY
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # not on Windows
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no container, or without a limit
        memory = min(memory, int(_CONTAINER_LIMIT.read_text(encoding="ascii")))
    return int(_MEMORY_SHARE * memory)


def check_memory(needed: int, what: str, refuse: Refusal) -> None:
    """Raises if something would take more memory than may be used.

    Args:
        needed: Bytes, from the sizes that a header claims.
        what: What takes them, as the subject of a sentence.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.
    """
    budget = memory_budget()
    if needed > budget:
        raise refuse(
            f"{what} would take {size_text(needed)}, and {size_text(budget)} may be."
        )


def check_regular_file(path: Path, refuse: Refusal) -> None:
    """Raises if a path leads to anything but a plain file, without opening it.

    Pipes would wait for a writer, and devices never end.

    Args:
        path: Where the file should lie.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.
    """
    with read_errors_as(refuse, "It cannot be opened: {}."):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise refuse("It is no plain file.")


@contextlib.contextmanager
def open_regular_file(path: Path, refuse: Refusal) -> Iterator[io.BufferedReader]:
    """Opens a plain file for reading.

    Args:
        path: Where the file should lie.
        refuse: Makes the error to raise from a sentence.

    Yields:
        The open file.

    Raises:
        Exception: What `refuse` made.
    """
    check_regular_file(path, refuse)
    with read_errors_as(refuse, "It cannot be opened: {}."):
        file = path.open("rb")
    with file:
        yield file


def read_json(path: Path, refuse: Refusal) -> Any:
    """Returns the values of a JSON file, which can be written again as they are.

    What Python reads and JSON does not know is refused: NaN, infinity and numbers
    beyond all floats, halves of Unicode pairs; as well as a name that stands twice in
    one object.

    Args:
        path: Where it lies.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "values.json"
    >>> _ = path.write_text("[1, 2]")
    >>> keras_advdef.core.untrusted.read_json(path, ValueError)
    [1, 2]
    """
    with open_regular_file(path, refuse) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_JSON:
            raise refuse(f"It is larger than {size_text(_LARGEST_JSON)}.")
        with read_errors_as(refuse, "It is no JSON ({})."):
            text = file.read(size).decode("utf-8")
            values = json.loads(text, object_pairs_hook=_named_once)
            _check_values(values)
    return values


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


def _check_values(values: Any) -> None:
    """Raises if values are nested too deeply or could not be written again."""
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
    """Returns arrays of an open `.npz` file, as `read_npz`.

    Args:
        file: The file, or its bytes in a `BytesIO`.
        refuse: Makes the error to raise from a sentence.
        names: The arrays that must be there and are read; `None` for all.

    Raises:
        Exception: What `refuse` made.
    """
    with read_errors_as(
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
    with read_errors_as(refuse, advice), archive.open(info) as file:
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
