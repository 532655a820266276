"""Output that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_advdef.core.errors import invalid
from keras_advdef.core.files import (
    PARTIAL_PREFIX,
    open_locked,
    uninterrupted,
    write_errors_as,
)
from keras_advdef.core.untrusted import Refusal
from keras_advdef_command.paths import check_replaceable

_STAGING = f"{PARTIAL_PREFIX}demo-"
_LOCK = "lock"


def _publish(
    staging: Path, output: Path, *, files: tuple[str, ...], folder: str
) -> None:
    target, old = output / folder, staging / f"replaced-{folder}"
    if target.exists():
        # A folder cannot be replaced in one step; the old one is removed with staging.
        os.replace(target, old)
    try:
        os.replace(staging / folder, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    for name in files:
        os.replace(staging / name, output / name)


@contextlib.contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Yields a folder for a run's files, locked while the run lasts."""
    with write_errors_as(output_refusal(output)):
        output.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(output)
        opened, lock = _locked_folder(output)
    with opened as name, lock:
        yield Path(name)


def _locked_folder(
    output: Path,
) -> tuple[tempfile.TemporaryDirectory[str], contextlib.AbstractContextManager[object]]:
    """Returns a new folder and the lock in it."""
    while True:
        opened = tempfile.TemporaryDirectory(
            dir=output, prefix=_STAGING, ignore_cleanup_errors=True
        )
        # Until it is locked, another run may take it for a leftover and remove it.
        with contextlib.suppress(FileNotFoundError):
            if (lock := open_locked(Path(opened.name) / _LOCK)) is not None:
                return opened, lock
        opened.cleanup()


def _remove_leftovers(output: Path) -> None:
    """Removes what killed runs have left behind."""
    for left in output.glob(f"{_STAGING}*"):
        if left.is_symlink() or not left.is_dir():
            continue
        with contextlib.suppress(OSError):
            lock = open_locked(left / _LOCK)
            if lock is not None:
                with lock:
                    shutil.rmtree(left, ignore_errors=True)


def output_refusal(output: Path) -> Refusal:
    """Returns a function that makes the error for a folder that is not writable.

    Args:
        output: The folder.
    """

    def refuse(advice: str) -> ValueError:
        rule = "a folder that can be written to"
        advice += " Choose another folder or free some space."
        return invalid("keras-advdef", "--output", rule, str(output), advice=advice)

    return refuse


@contextlib.contextmanager
def atomic_output(
    output: Path, *, files: tuple[str, ...], folder: str
) -> Iterator[Path]:
    """Yields a temporary folder and moves its contents to `output` on success.

    Results of an earlier run are replaced, and leftovers of a killed run are removed.
    On failure `output` stays as it was, or is removed if it was created here.

    Args:
        output: Folder to write to; created if missing.
        files: Names of the files that the body writes.
        folder: Name of the SavedModel that the body exports.

    Yields:
        A folder on the same file system as `output`.

    Raises:
        ValueError: If `output` is not a folder, cannot be written to, or holds
            something else under one of the names.
    """
    if output.exists() and not output.is_dir():
        rule = "a folder"
        advice = "It is a file; choose another name."
        raise invalid("keras-advdef", "--output", rule, str(output), advice=advice)
    created = not output.exists()
    try:
        with _staging(output) as staging:
            check_replaceable(output, files=files, folder=folder)
            yield staging
            with write_errors_as(output_refusal(output)), uninterrupted():
                _publish(staging, output, files=files, folder=folder)
    except BaseException:
        if created:
            with contextlib.suppress(OSError):
                output.rmdir()
        raise
