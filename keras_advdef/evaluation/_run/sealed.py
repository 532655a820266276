"""Files with checksums that reveal damage and files in the wrong place."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_advdef.core import untrusted
from keras_advdef.core.files import atomic_write, atomic_write_text
from keras_advdef.core.untrusted import check_memory, open_regular_file

_MAGIC = b"keras_advdef part 1\n"
_CHECKSUM = "sha256"


def write_sealed(path: Path, content: bytes, about: str) -> None:
    """Writes bytes after a checksum, atomically.

    Args:
        path: The file.
        content: The bytes.
        about: What the content is; `read_*` accepts it only as that.
    """
    head = _MAGIC + _seal(content, about)
    atomic_write(path, lambda partial: partial.write_bytes(head + content))


def read_sealed(path: Path, about: str) -> bytes | None:
    """Returns what `write_sealed` wrote; `None` for anything else.

    Args:
        path: The file.
        about: What the content should be.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.evaluation._run.sealed import read_sealed, write_sealed
    >>> path = Path(tempfile.mkdtemp()) / "a.part"
    >>> write_sealed(path, b"numbers", "a")
    >>> read_sealed(path, "a"), read_sealed(path, "b")
    (b'numbers', None)
    """
    try:
        with _opened(path) as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            seal = file.read(hashlib.sha256().digest_size)
            content = file.read()
    except (OSError, ValueError):
        return None
    return content if seal == _seal(content, about) else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a file if it fits into memory, as our own files do."""
    with open_regular_file(path, ValueError) as file:
        check_memory(os.fstat(file.fileno()).st_size, "It", ValueError)
        yield file


def _seal(content: bytes, about: str) -> bytes:
    digest = hashlib.sha256(about.encode() + b"\0")
    digest.update(content)
    return digest.digest()


def write_record(path: Path, values: Mapping[str, object], about: str) -> None:
    """Writes JSON values with their checksum, atomically.

    Args:
        path: A .json file.
        values: The values, by name.
        about: What the content is; `read_*` accepts it only as that.
    """
    record = {**values, _CHECKSUM: record_digest(values, about)}
    atomic_write_text(path, json.dumps(record, indent=2) + "\n")


def read_record(path: Path, about: str) -> dict[str, Any] | None:
    """Returns what `write_record` wrote; `None` for anything else.

    Args:
        path: The file.
        about: What the content should be.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        return None
    checksum = values.pop(_CHECKSUM, None)
    return values if checksum == record_digest(values, about) else None


def read_json(path: Path) -> Any:
    """Returns the JSON values in a file; `None` if there are none.

    Args:
        path: The file.
    """
    try:
        return untrusted.read_json(path, ValueError)
    except (OSError, ValueError):
        return None


def record_digest(values: Mapping[str, object], about: str) -> str:
    """Returns a checksum of JSON values.

    Args:
        values: The values, by name.
        about: What the values are.
    """
    return _seal(json.dumps(values, sort_keys=True).encode(), about).hex()


def file_digest(path: Path) -> str | None:
    """Returns the SHA-256 of a file; `None` if it cannot be read.

    Args:
        path: The file.
    """
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
