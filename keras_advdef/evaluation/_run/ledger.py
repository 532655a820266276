"""Ledger: stores what an evaluation has computed, so that it can be resumed."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.files import (
    PARTIAL_PREFIX,
    check_disk_space,
    open_locked,
    remove_partial_files,
)
from keras_advdef.core.progress import Progress
from keras_advdef.core.replicas import Replicas
from keras_advdef.core.text import shortened
from keras_advdef.core.untrusted import error_reason, read_npz_stream
from keras_advdef.evaluation._run.sealed import (
    read_record,
    read_sealed,
    record_digest,
    write_record,
    write_sealed,
)

_FOLDER = "progress"
_IDENTITY = "identity.json"
_LOCK = "lock"
_SUFFIX = ".part"
_WRITABLE = "a folder that can be written to"
# Bytes for the report, and for what the parts hold besides images.
_REPORT = 16 * 2**20
_LISTED = 10
_LONGEST_NAME = 40

Arrays = dict[str, np.ndarray]

_Piece = TypeVar("_Piece")


class Part(NamedTuple):
    """A part of an evaluation.

    Attributes:
        arrays: What it holds.
        is_new: Whether it was computed, not read from its file.
    """

    arrays: Arrays
    is_new: bool


class Ledger:
    """The finished parts of one evaluation, one file each, in `output/progress/`.

    Every part is written atomically, carries a checksum, and depends only on the
    identity of the evaluation and on its own name. So a run that was killed resumes
    where it was, and ends as if it had not been killed. A damaged part is computed
    again. Of several workers only the chief reads and writes; all get its parts.

    Args:
        output: Folder of the report; `None` to store nothing.
        identity: Identifies the evaluation: model, data and settings.
        progress: Receives messages about resuming and damage.
        replicas: Those that parts are shared out over; `None` for those of the scope.

    Raises:
        ValueError: If `output` cannot be written to, holds another evaluation or the
            rest of one, or is in use by another process.
    """

    def __init__(
        self,
        output: Path | None,
        identity: dict[str, object],
        progress: Progress,
        *,
        replicas: Replicas | None = None,
    ) -> None:
        self.identity = identity
        self.replicas = replicas or Replicas.of_scope("evaluate_robustness")
        # Whether the chief has a folder, and the folder of this process.
        self.is_kept = output is not None
        output = output if self.replicas.is_chief else None
        self._output = output
        self._progress = progress
        self._lock: Any = None
        self._resumed = 0
        self._section = ""
        self._is_ours = False
        self._is_new = output is not None and not output.exists()
        if self.is_kept:
            try:
                self.replicas.on_chief(self._opened)
            except BaseException:
                self.close(finished=False)
                raise

    def _opened(self) -> None:
        if self._output is not None:
            self._open(self._output)

    def _open(self, output: Path) -> None:
        folder = output / _FOLDER
        if folder.is_symlink():
            rule = "a folder that only an evaluation has written to"
            raise rejected(output, rule, f"{_FOLDER} in it is a link; move it away.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open_locked(folder / _LOCK)
        except OSError as error:
            raise cannot_write(output, error) from error
        if self._lock is None:
            rule = "a folder that no other evaluation uses at the same time"
            raise rejected(output, rule, "Wait for it, or choose another folder.")
        for place in (output, folder):
            remove_partial_files(place)
        self._check_identity(output, folder / _IDENTITY)
        self._is_ours = True
        self._resumed = sum(1 for _ in folder.glob(f"*{_SUFFIX}"))
        if self._resumed:
            self._progress.line(
                f"Resuming this evaluation: {self._resumed} finished parts are in "
                f"{folder}."
            )

    def _check_identity(self, output: Path, path: Path) -> None:
        if not path.exists():
            try:
                write_record(path, {"identity": self.identity}, _IDENTITY)
            except OSError as error:
                raise cannot_write(output, error) from error
            return
        record = read_record(path, _IDENTITY)
        identity = None if record is None else record.get("identity")
        if not isinstance(identity, dict):
            rule = "a new folder, or one of an evaluation with the same settings"
            advice = (
                f"{_FOLDER}/{_IDENTITY} in it, which says what was evaluated, is "
                f"damaged; delete {_FOLDER}/ to start over, or choose another folder."
            )
            raise rejected(output, rule, advice)
        check_identity(output, identity, self.identity)

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Keeps the parts inside apart from those of the same names outside.

        Args:
            name: Name of the section, fit for a file name.
        """
        self._section = f"{name}-"
        try:
            yield
        finally:
            self._section = ""

    def check_room(self, needed: int) -> None:
        """Raises before the attacks if the disk has too little room.

        Args:
            needed: Bytes of all parts; existing ones are subtracted.

        Raises:
            ValueError: If it has; what was written before stays.
        """
        if self.is_kept:
            self.replicas.on_chief(lambda: self._check_room(needed))

    def _check_room(self, needed: int) -> None:
        if self._output is None:
            return
        output, folder = self._output, self._output / _FOLDER
        there = sum(path.stat().st_size for path in folder.glob(f"*{_SUFFIX}"))

        def refuse(said: str) -> ValueError:
            advice = f"{said} Make room, or choose another folder."
            return rejected(output, _WRITABLE, advice)

        check_disk_space(folder, max(0, needed - there) + _REPORT, refuse)

    def part(self, name: str, compute: Callable[[], Arrays], what: str) -> Arrays:
        """Returns the arrays of a part, read from its file or computed and written.

        Args:
            name: Name of the part, unique in its section.
            compute: Makes the arrays.
            what: Name of the part, for readers.

        Raises:
            ValueError: If the file cannot be written; what was written before stays.
        """
        found = self._read(name, what)
        if found is None:
            found = self.replicas.agreed(compute)
            self._write(name, found)
        return found

    def groups(self, count: int) -> list[range]:
        """Returns the places of parts to ask for at once: one for each replica.

        Of more parts at once, more would be lost by stopping.

        Args:
            count: Number of parts.
        """
        size = self.replicas.count
        starts = range(0, count, size)
        return [range(start, min(start + size, count)) for start in starts]

    def parts(
        self,
        pieces: Mapping[str, _Piece],
        compute: Callable[[str, _Piece], Arrays],
        what: str,
    ) -> list[Part]:
        """Returns several parts; each replica computes its share of the missing ones.

        Args:
            pieces: What each part is made of, by its name, unique in its section.
            compute: Makes the arrays of a part from its name and its piece.
            what: Name of the parts, for readers.

        Raises:
            ValueError: If a file cannot be written; what was written before stays.
        """
        read = {name: self._read(name, what) for name in pieces}
        missing = [name for name, arrays in read.items() if arrays is None]
        made: dict[str, Arrays] = {}
        found = self.replicas.map(lambda name: compute(name, pieces[name]), missing)
        for name, arrays in zip(missing, found, strict=True):
            self._write(name, arrays)
            made[name] = arrays
        return [
            Part(made[name] if arrays is None else arrays, is_new=arrays is None)
            for name, arrays in read.items()
        ]

    def _read(self, name: str, what: str) -> Arrays | None:
        """Returns a part if it has been finished."""
        if not self.is_kept:
            return None
        return self.replicas.on_chief(lambda: self._read_file(name, what))

    def _read_file(self, name: str, what: str) -> Arrays | None:
        if self._output is None:
            return None
        path, about = self._place(self._output, name)
        found = _arrays(read_sealed(path, about))
        if found is None:
            self._tell(self._output, path, what)
        return found

    def _write(self, name: str, arrays: Arrays) -> None:
        if self.is_kept:
            self.replicas.on_chief(lambda: self._write_file(name, arrays))

    def _write_file(self, name: str, arrays: Arrays) -> None:
        if self._output is None:
            return
        content = io.BytesIO()
        np.savez_compressed(content, **dict[str, Any](arrays))
        path, about = self._place(self._output, name)
        try:
            write_sealed(path, content.getvalue(), about)
        except OSError as error:
            raise cannot_write(self._output, error) from error

    def _place(self, output: Path, name: str) -> tuple[Path, str]:
        """Returns the file of a part, and what its content is about."""
        name = self._section + name
        about = f"{name} of {record_digest(self.identity, _IDENTITY)}"
        return output / _FOLDER / f"{name}{_SUFFIX}", about

    def _tell(self, output: Path, path: Path, what: str) -> None:
        """Says why a part is computed."""
        if path.is_dir():
            raise in_the_way(output, path)
        if path.exists():
            self._progress.line(f"{path} is damaged; computing it again: {what}.")
        elif self._resumed:
            self._progress.line(f"Continuing with {what}.")
            self._resumed = 0

    def close(self, *, finished: bool) -> None:
        """Unlocks the folder, and removes the parts once the report is written.

        An evaluation that failed before its first part leaves nothing behind.

        Args:
            finished: Whether the parts are no longer needed.
        """
        if self._lock is not None and os.name == "nt":
            self._lock.close()  # Windows has no lock, and cannot remove an open file
        if self._is_ours:
            self._tidy(is_finished=finished)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _tidy(self, *, is_finished: bool) -> None:
        """Removes files that are no longer needed, while the folder is locked."""
        if self._output is None:
            return
        folder = self._output / _FOLDER
        parts = [*folder.glob(f"*{_SUFFIX}")]
        if is_finished or not parts:
            # Files that cannot be removed do no harm.
            with contextlib.suppress(OSError):
                for path in (*parts, folder / _IDENTITY, folder / _LOCK):
                    path.unlink(missing_ok=True)
                folder.rmdir()
                if self._is_new and not is_finished:
                    self._output.rmdir()


def _arrays(content: bytes | None) -> Arrays | None:
    """Returns the arrays of a part; `None` if it is damaged."""
    if content is None:
        return None
    try:
        return read_npz_stream(io.BytesIO(content), ValueError)
    except ValueError:
        return None


def remove_parts(output: Path, identity: dict[str, object]) -> None:
    """Removes the parts of an evaluation that was killed after writing its report.

    Args:
        output: Folder of the report.
        identity: Identifies the evaluation.
    """
    if (output / _FOLDER).is_dir():
        # Files that cannot be removed do no harm.
        with contextlib.suppress(ValueError):
            alone = Replicas(None)
            Ledger(output, identity, Progress(), replicas=alone).close(finished=True)


def check_identity(output: Path, found: object, expected: dict[str, object]) -> None:
    """Raises if a folder belongs to another evaluation.

    Args:
        output: The folder.
        found: The identity found there, or anything else.
        expected: The identity of the evaluation that will write there.

    Raises:
        ValueError: If they differ; the message says how.
    """
    there = found if isinstance(found, dict) else {}
    names = sorted(there.keys() | expected.keys())
    other = [
        shortened(name, _LONGEST_NAME)
        for name in names
        if there.get(name) != expected.get(name)
    ][:_LISTED]
    if other:
        rule = "a new folder, or one of an evaluation with the same settings"
        advice = f"It holds one that has another {', '.join(other)}; choose a new one."
        raise rejected(output, rule, advice)


def cannot_write(output: Path, error: OSError) -> ValueError:
    """Returns the error for a folder that cannot be written to.

    Args:
        output: The folder.
        error: The system's error.
    """
    name = str(error.filename or "")
    where = f" ({name})" if name and PARTIAL_PREFIX not in name else ""
    advice = (
        f"{error_reason(error)}{where}. Finished parts are kept: fix this and repeat "
        "the call to continue from there, or choose another folder."
    )
    return rejected(output, _WRITABLE, advice)


def in_the_way(output: Path, path: Path) -> ValueError:
    """Returns the error for a folder in the place of a file of the evaluation.

    Args:
        output: The evaluation's folder.
        path: The folder in it.
    """
    rule = "a folder that only an evaluation has written to"
    advice = f"{path.relative_to(output)} in it is a folder; move it away."
    return rejected(output, rule, advice)


def rejected(output: Path, rule: str, advice: str) -> ValueError:
    """Returns the error for a folder that an evaluation cannot use.

    Args:
        output: The folder.
        rule: What is accepted.
        advice: What is wrong, and what to do.
    """
    return invalid("evaluate_robustness", "output", rule, str(output), advice=advice)
