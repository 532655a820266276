"""Writes files that appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets a function write a file beside its place and moves it there.

    Args:
        path: Where the file shall lie; what lies there is replaced.
        write: Writes to the path it is given, which has the same suffix.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_advdef.core.written import write_whole
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_whole(path, lambda partial: partial.write_text("whole"))
    >>> path.read_text()
    'whole'
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all.

    Args:
        path: Where it shall lie.
        text: Its contents.
    """
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
