"""Writing files: atomically, with locks, and with errors that users understand."""

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
from typing import IO, Any

import tensorflow as tf

from keras_advdef.core.text import size_text
from keras_advdef.core.untrusted import Refusal, error_reason

# Temporary folders start with this; a killed process may leave one behind.
PARTIAL_PREFIX = ".partial-"
# Number of random letters that `tempfile` appends.
_RANDOM = 8
_SAVED_MODEL = (
    "saved_model.pb",
    "saved_model.pbtxt",
    "fingerprint.pb",
    "variables",
    "assets",
    "assets.extra",
)
# Errors of a disk, which TensorFlow reports among names of operations and files.
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


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays Ctrl-C and SIGTERM until the body has ended.

    Use it for short steps that must not be left half done. Python interrupts only the
    main thread, so in other threads this does nothing.

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


def try_lock(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed, unless another process holds the lock.

    The system releases the locks of a process that dies. Windows has no such locks;
    there, every call succeeds.

    Args:
        file: An open file.

    Returns:
        Whether this process now holds the lock.

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


def open_locked(path: Path) -> IO[bytes] | None:
    """Opens a lock file, creating it if need be, and locks it.

    The holder of the lock may remove the file. Links are not followed, since they could
    lead to someone else's file.

    Args:
        path: Path of the file.

    Returns:
        The open file, which holds the lock until it is closed; `None` if another
        process holds it.

    Raises:
        OSError: If the path is not a regular file, or the file cannot be created.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.files import open_locked
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with open_locked(path):
    ...     path.unlink()
    """
    flags = os.O_RDWR | os.O_CREAT
    # Opening a pipe would wait for a reader.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EEXIST, "It is not a regular file", str(path))
        if not try_lock(file):
            file.close()
            return None
        if _is_at(path, file):
            return file
        file.close()  # The holder has removed the file in the meantime.


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file in a temporary folder and moves it into place.

    The folder is private and has a random name. The file is synced to disk before it is
    moved, so neither a full disk nor a power cut leaves half a file at `path`.

    Args:
        path: Path of the file; an existing file is replaced.
        write: Writes the file to the path it is given, which has the same name.

    Raises:
        OSError: If it cannot be written. An existing file is left unchanged.

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
    """Syncs a folder's entries to disk, if its file system supports that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_partial_files(folder: Path) -> None:
    """Removes the temporary folders of killed processes.

    Args:
        folder: Folder they wrote to. No other process may be writing there.

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
    """Writes a UTF-8 text file with `atomic_write`.

    Args:
        path: Path of the file.
        text: Its contents.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> keras_advdef.core.files.atomic_write_text(path, "whole")
    >>> path.read_text()
    'whole'
    """
    atomic_write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def check_disk_space(folder: Path, needed: int, refuse: Refusal) -> None:
    """Raises if a disk has too little free space, before any work is done.

    Args:
        folder: Folder that files will be written to.
        needed: Bytes they need.
        refuse: Maps a sentence to the error to raise.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> from pathlib import Path
    >>> from keras_advdef.core.files import check_disk_space
    >>> check_disk_space(Path("."), 1, ValueError)
    """
    disk = shutil.disk_usage(folder)
    # Some file systems report a size of 0.
    if disk.total and disk.free < needed:
        sizes = (
            f"{size_text(needed)} are needed, but only {size_text(disk.free)} are free"
        )
        raise refuse(f"{os.strerror(errno.ENOSPC)}: {sizes}.")


@contextlib.contextmanager
def write_errors_as(refuse: Refusal) -> Iterator[None]:
    """Turns errors of the disk (full, read-only, missing) into an error of the caller.

    Args:
        refuse: Maps a sentence to the error to raise.

    Yields:
        Nothing; write files in the body.

    Raises:
        Exception: The error from `refuse`.

    Example:

    >>> from keras_advdef.core.files import write_errors_as
    >>> with write_errors_as(ValueError):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    ValueError: No space left on device. Existing files are unchanged.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        said = [text for text in map(os.strerror, _DISK) if text in str(error)]
        if not said and isinstance(error, tf.errors.OpError):
            raise
        reason = said[0] if said else error_reason(error)
        raise refuse(f"{reason}. Existing files are unchanged.") from error


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[None]:
    """Restores the file or SavedModel at a path if the body fails to replace it.

    Use it around libraries that do not write atomically. Other files in the folder of a
    SavedModel are not touched.

    Args:
        path: File or SavedModel folder that the body writes.

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
