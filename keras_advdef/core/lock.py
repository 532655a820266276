"""Tells whether another process is at work on a file."""

import contextlib
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
