"""Ledger: keeps what an evaluation has computed, so that it can go on later."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.written import write_text, write_whole

_FOLDER = "progress"
_IDENTITY = "identity.json"

Arrays = dict[str, np.ndarray]


class Ledger:
    """The finished parts of one evaluation, one file each, in `output/progress/`.

    Every part is written whole or not at all, and depends only on the identity of the
    evaluation and on its own name. So a run that was killed goes on where it was, and
    ends as if it had not been.

    Args:
        output: Folder of the report; `None` to keep nothing.
        identity: What makes an evaluation this one: model, data, settings.

    Raises:
        ValueError: If `output` cannot be written to, holds another evaluation, or is
            in use by another process.
    """

    def __init__(self, output: Path | None, identity: dict[str, Any]) -> None:
        self.identity = identity
        self._folder = None if output is None else output / _FOLDER
        self._lock: Any = None
        if output is not None:
            try:
                self._open(output)
            except ValueError:
                self.close(finished=False)
                raise

    def _open(self, output: Path) -> None:
        folder = output / _FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
        except OSError as error:
            rule = "a folder that can be written to"
            advice = f"{error.strerror}; choose another one."
            raise _rejected(output, rule, advice) from error
        if not _locked(self._lock):
            rule = "a folder that no other evaluation uses at the same time"
            raise _rejected(output, rule, "Wait for it, or choose another one.")
        known = folder / _IDENTITY
        if known.is_file():
            started = json.loads(known.read_text(encoding="utf-8"))
            check_identity(output, started, self.identity)
        else:
            write_text(known, json.dumps(self.identity, indent=2))

    def part(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays of a part: from its file, or computed and written to it.

        Args:
            name: Name of the part, unique in the evaluation.
            compute: Makes the arrays.
        """
        if self._folder is None:
            return compute()
        path = self._folder / f"{name}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        arrays = compute()
        write_whole(path, lambda p: np.savez_compressed(p, **dict[str, Any](arrays)))
        return arrays

    def holds(self, name: str) -> bool:
        """Returns whether a part has been computed before.

        Args:
            name: Name of the part.
        """
        return self._folder is not None and (self._folder / f"{name}.npz").is_file()

    def close(self, *, finished: bool) -> None:
        """Lets other processes in, and removes the parts once the report is written.

        Args:
            finished: Whether the parts are no longer needed.
        """
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if finished and self._folder is not None:
            shutil.rmtree(self._folder)


def check_identity(
    output: Path, found: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Raises if a folder belongs to another evaluation.

    Args:
        output: The folder.
        found: The identity that lies there.
        expected: The identity of the evaluation that wants to write there.

    Raises:
        ValueError: If they differ; the message says in what.
    """
    names = sorted(found.keys() | expected.keys())
    other = [name for name in names if found.get(name) != expected.get(name)]
    if other:
        rule = "a new folder, or one of an evaluation with the same settings"
        advice = f"What lies there has another {', '.join(other)}; choose another one."
        raise _rejected(output, rule, advice)


def _rejected(output: Path, rule: str, advice: str) -> ValueError:
    return invalid("evaluate_robustness", "output", rule, str(output), advice=advice)


def _locked(file: Any) -> bool:
    with contextlib.suppress(ImportError):  # no such module on Windows
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
