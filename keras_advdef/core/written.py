"""Writes files that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_advdef.core.uninterrupted import uninterrupted
from keras_advdef.core.untrusted import Refusal, reason_of, size_text

# What a killed process may leave behind begins so.
PARTIAL = ".partial-"
# So many letters `tempfile` adds.
_RANDOM = 8
_SAVED_MODEL = (
    "saved_model.pb",
    "saved_model.pbtxt",
    "fingerprint.pb",
    "variables",
    "assets",
    "assets.extra",
)
# What TensorFlow says of a disk among names of operations and temporary files.
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.ENOENT,
)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets a function write a file beside its place and moves it there.

    It is written in a folder that nobody else can enter or guess the name of, and is
    on the disk before it takes its place: neither a full disk nor a power cut leaves
    half a file under the name.

    Args:
        path: Where the file shall lie; what lies there is replaced.
        write: Writes to the path it is given, which has the same name.

    Raises:
        OSError: If it cannot be written; what lay there still does.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.written import write_whole
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_whole(path, lambda partial: partial.write_text("whole"))
    >>> path.read_text()
    'whole'
    """
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=PARTIAL, ignore_cleanup_errors=True
    ) as folder:
        partial = Path(folder) / path.name
        write(partial)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    """Puts the names in a folder on the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_partial(folder: Path) -> None:
    """Removes what killed processes were writing whole, but for the demo's.

    Args:
        folder: Where they were writing. Nobody else may be at work there.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.written import PARTIAL, remove_partial
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = tempfile.mkdtemp(dir=folder, prefix=PARTIAL)
    >>> remove_partial(folder)
    >>> list(folder.iterdir())
    []
    """
    for left in folder.glob(PARTIAL + "?" * _RANDOM):
        shutil.rmtree(left, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all.

    Args:
        path: Where it shall lie.
        text: Its contents.
    """
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def check_room(folder: Path, needed: int, refuse: Refusal) -> None:
    """Raises if the disk of a folder has too little room, before the work is done.

    Args:
        folder: Where files are to be written.
        needed: Bytes that they take.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> from pathlib import Path
    >>> from keras_advdef.core.written import check_room
    >>> check_room(Path("."), 1, ValueError)
    """
    disk = shutil.disk_usage(folder)
    # Some file systems do not say how large they are.
    if disk.total and disk.free < needed:
        sizes = f"{size_text(needed)} are needed, and {size_text(disk.free)} are free"
        raise refuse(f"{os.strerror(errno.ENOSPC)}: {sizes}.")


@contextlib.contextmanager
def writing(refuse: Refusal) -> Iterator[None]:
    """Turns what is raised where a disk is full, closed or gone into a refusal of it.

    Args:
        refuse: Makes the error to raise from a sentence.

    Yields:
        Nothing; files are written in the body.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> from keras_advdef.core.written import writing
    >>> with writing(ValueError):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    ValueError: No space left on device. What lay there before is whole.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        said = [text for text in map(os.strerror, _DISK) if text in str(error)]
        if not said and isinstance(error, tf.errors.OpError):
            raise
        reason = said[0] if said else reason_of(error)
        raise refuse(f"{reason}. What lay there before is whole.") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Puts the file or SavedModel at a path aside, and back where the body fails.

    Other files in the folder of a SavedModel stay where they are.

    Args:
        path: What the body writes; a library that does not write whole files.

    Yields:
        Nothing.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.written import replacing
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> _ = path.write_text("old")
    >>> try:
    ...     with replacing(path):
    ...         _ = path.write_text("half")
    ...         raise ZeroDivisionError
    ... except ZeroDivisionError:
    ...     pass
    >>> path.read_text()
    'old'
    """
    parts = [path / name for name in _SAVED_MODEL] if path.is_dir() else [path]
    aside: dict[Path, Path] = {}
    is_begun = False
    try:
        for part in parts:
            if part.exists():
                folder = tempfile.mkdtemp(dir=part.parent, prefix=PARTIAL)
                aside[part] = Path(folder) / part.name
                os.replace(part, aside[part])
        is_begun = True
        yield
    except BaseException:
        with uninterrupted():
            for part in parts if is_begun else ():
                _remove(part)
            for part, old in aside.items():
                if old.exists():
                    os.replace(old, part)
                _remove(old.parent)
        raise
    for old in aside.values():
        _remove(old.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
