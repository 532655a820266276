"""Seal: tells whether the files of a report are as they were written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_advdef.evaluation._run.sealed import file_digest, read_record, write_record

SEAL = "seal.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seal:
    """The record beside a report: its evaluation, and a checksum for each file.

    Attributes:
        folder: Folder of the files.
        identity: Identifies the evaluation.
        files: The checksum of each file, by name.
    """

    folder: Path
    identity: Any
    files: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Seal | None":
        """Returns the seal in a folder; `None` if it is missing or damaged.

        Args:
            folder: Folder of the seal.
        """
        record = read_record(folder / SEAL, SEAL)
        files = None if record is None else record.get("files")
        if record is None or not isinstance(files, dict):
            return None
        # A name with folders in it would point to other files.
        if any(Path(name).name != name for name in files):
            return None
        return cls(folder=folder, identity=record.get("identity"), files=files)

    @staticmethod
    def write(folder: Path, identity: Any, names: Sequence[str]) -> None:
        """Writes the seal of files that have just been written.

        Args:
            folder: Folder of the files.
            identity: JSON values that identify the evaluation.
            names: Names of the files.
        """
        files = {name: file_digest(folder / name) for name in names}
        write_record(folder / SEAL, {"identity": identity, "files": files}, SEAL)

    @property
    def damaged(self) -> set[str]:
        """Names of the files that are missing or have changed since."""
        digests = {name: file_digest(self.folder / name) for name in self.files}
        return {name for name, digest in digests.items() if digest != self.files[name]}
