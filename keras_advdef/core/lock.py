"""Tells whether another process is at work on a folder."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any


def locked(file: Any) -> bool:
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
    ...     keras_advdef.core.lock.locked(file)
    True
    """
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def lock_at(path: Path) -> Any:
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
    >>> from keras_advdef.core.lock import lock_at
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with lock_at(path):
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
        if not locked(file):
            file.close()
            return None
        if _is_at(path, file):
            return file
        file.close()  # whoever held it has removed it meanwhile


def _is_at(path: Path, file: Any) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False
