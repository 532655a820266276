"""Seal: tells whether the files of a report are those that were written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_advdef.evaluation._run.sealed import file_digest, read_record, write_record

SEAL = "seal.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seal:
    """What lies beside a report: of which evaluation it is, and a checksum each.

    Attributes:
        folder: Where the files lie.
        identity: What was evaluated.
        files: The checksum of each file, by name.
    """

    folder: Path
    identity: Any
    files: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Seal | None":
        """Returns the seal in a folder; `None` for none, or a damaged one.

        Args:
            folder: Where it lies.
        """
        record = read_record(folder / SEAL, SEAL)
        files = None if record is None else record.get("files")
        if record is None or not isinstance(files, dict):
            return None
        # A name with folders in it would lead to other files.
        if any(Path(name).name != name for name in files):
            return None
        return cls(folder=folder, identity=record.get("identity"), files=files)

    @staticmethod
    def write(folder: Path, identity: Any, names: Sequence[str]) -> None:
        """Writes the seal of files that have just been written.

        Args:
            folder: Where they lie.
            identity: JSON values that say what was evaluated.
            names: Their names.
        """
        files = {name: file_digest(folder / name) for name in names}
        write_record(folder / SEAL, {"identity": identity, "files": files}, SEAL)

    @property
    def damaged(self) -> set[str]:
        """Names of the files that are missing or are not what was written."""
        digests = {name: file_digest(self.folder / name) for name in self.files}
        return {name for name, digest in digests.items() if digest != self.files[name]}
