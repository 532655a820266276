"""Puts off the signals that ask a process to stop."""

import contextlib
import errno
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_advdef.core.text import size_text
from keras_advdef.core.untrusted import Refusal, error_reason


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets the body end before Ctrl-C or SIGTERM is answered.

    For what takes a moment and must not be done by half. In other threads than the
    main one Python never interrupts anything.

    Yields:
        Nothing.

    Example:

    >>> import signal
    >>> from keras_advdef.core.files import uninterrupted
    >>> try:
    ...     with uninterrupted():
    ...         signal.raise_signal(signal.SIGINT)
    ...         print("done")
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    done
    interrupted
    """
    before: dict[int, Any] = {}
    came: list[tuple[int, Any]] = []
    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda *given: came.append(given))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came[:1]:
        before[number](number, frame)


def try_lock(file: Any) -> bool:
    """Locks an open file until it is closed, unless another process has.

    The system takes the lock from a process that dies. Where it has no such locks, on
    Windows, every process gets one.

    Args:
        file: An open file.

    Returns:
        Whether the lock is now held.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     keras_advdef.core.files.try_lock(file)
    True
    """
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def open_locked(path: Path) -> Any:
    """Opens a file that is there to be locked, and locks it.

    Whoever holds it may remove it. A link is not followed, since it would lead to a
    file of somebody else's.

    Args:
        path: Where the file lies, or shall.

    Returns:
        The open file, which holds the lock until it is closed; `None` if another
        process does.

    Raises:
        OSError: If there is something else at the path, or no file can be made.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.files import open_locked
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with open_locked(path):
    ...     path.unlink()
    """
    flags = os.O_RDWR | os.O_CREAT
    # A pipe would wait for a reader.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EEXIST, "It is no plain file", str(path))
        if not try_lock(file):
            file.close()
            return None
        if _is_at(path, file):
            return file
        file.close()  # whoever held it has removed it meanwhile


def _is_at(path: Path, file: Any) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


# What a killed process may leave behind begins so.
PARTIAL_PREFIX = ".partial-"
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


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
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
    >>> from keras_advdef.core.files import atomic_write
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> atomic_write(path, lambda partial: partial.write_text("whole"))
    >>> path.read_text()
    'whole'
    """
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=PARTIAL_PREFIX, ignore_cleanup_errors=True
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


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes were writing whole, but for the demo's.

    Args:
        folder: Where they were writing. Nobody else may be at work there.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.files import PARTIAL_PREFIX, remove_partial_files
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = tempfile.mkdtemp(dir=folder, prefix=PARTIAL_PREFIX)
    >>> remove_partial_files(folder)
    >>> list(folder.iterdir())
    []
    """
    for left in folder.glob(PARTIAL_PREFIX + "?" * _RANDOM):
        shutil.rmtree(left, ignore_errors=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all.

    Args:
        path: Where it shall lie.
        text: Its contents.
    """
    atomic_write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def check_disk_space(folder: Path, needed: int, refuse: Refusal) -> None:
    """Raises if the disk of a folder has too little room, before the work is done.

    Args:
        folder: Where files are to be written.
        needed: Bytes that they take.
        refuse: Makes the error to raise from a sentence.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> from pathlib import Path
    >>> from keras_advdef.core.files import check_disk_space
    >>> check_disk_space(Path("."), 1, ValueError)
    """
    disk = shutil.disk_usage(folder)
    # Some file systems do not say how large they are.
    if disk.total and disk.free < needed:
        sizes = f"{size_text(needed)} are needed, and {size_text(disk.free)} are free"
        raise refuse(f"{os.strerror(errno.ENOSPC)}: {sizes}.")


@contextlib.contextmanager
def write_errors_as(refuse: Refusal) -> Iterator[None]:
    """Turns what is raised where a disk is full, closed or gone into a refusal of it.

    Args:
        refuse: Makes the error to raise from a sentence.

    Yields:
        Nothing; files are written in the body.

    Raises:
        Exception: What `refuse` made.

    Example:

    >>> from keras_advdef.core.files import write_errors_as
    >>> with write_errors_as(ValueError):
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
        reason = said[0] if said else error_reason(error)
        raise refuse(f"{reason}. What lay there before is whole.") from error


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[None]:
    """Puts the file or SavedModel at a path aside, and back where the body fails.

    Other files in the folder of a SavedModel stay where they are.

    Args:
        path: What the body writes; a library that does not write whole files.

    Yields:
        Nothing.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.files import atomic_replace
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> _ = path.write_text("old")
    >>> try:
    ...     with atomic_replace(path):
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
                folder = tempfile.mkdtemp(dir=part.parent, prefix=PARTIAL_PREFIX)
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
