"""Writes files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a killed process may leave behind begins so.
PARTIAL = ".partial-"


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


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all.

    Args:
        path: Where it shall lie.
        text: Its contents.
    """
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
