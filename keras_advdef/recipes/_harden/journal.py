"""Keeps a training on disk, so that the same call continues it bit for bit."""

import functools
import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.files import (
    atomic_write,
    atomic_write_text,
    remove_partial_files,
    write_errors_as,
)
from keras_advdef.core.training_state import (
    assign_values,
    training_state,
    values_of,
)
from keras_advdef.core.untrusted import read_errors_as
from keras_advdef.recipes._harden.request import OWNER

FACTS = "hardened.json"
_STATE = "training.npz"
_STORED = "facts"


class Journal:
    """The folder of a run: who it is, and how far it is.

    Args:
        output: The folder; `None` to keep nothing.
        identity: What two runs must share so that one can continue the other.

    Raises:
        ValueError: If the folder holds another run, or cannot be written to.
    """

    def __init__(self, output: Path | None, identity: dict[str, Any]) -> None:
        self._output = output
        self._identity = identity
        self.finished: dict[str, Any] | None = None
        self.facts: dict[str, Any] | None = None
        self._arrays: dict[str, np.ndarray] = {}
        if output is None:
            return
        with write_errors_as(self._refuse):
            output.mkdir(parents=True, exist_ok=True)
            remove_partial_files(output)
        if (output / FACTS).exists():
            self.finished = self._checked(self._read_facts(output / FACTS))
        elif (output / _STATE).exists():
            self._load(output / _STATE)

    def restore(self, model: keras.Model) -> list[np.ndarray]:
        """Puts the state that was kept into a model.

        Args:
            model: The compiled and built training model.

        Returns:
            The best weights so far.
        """
        if self.facts is None:
            return []
        state = training_state(model)
        values = [self._arrays[f"variable {index}"] for index in range(len(state))]
        assign_values(model, state, values)
        return [self._arrays[f"best {i}"] for i in range(self.facts["best count"])]

    def keep(
        self,
        facts: dict[str, Any],
        model: keras.Model,
        best: list[np.ndarray],
    ) -> None:
        """Writes how far the training is.

        Args:
            facts: JSON values.
            model: The training model.
            best: Weights of the best epoch.
        """
        self.facts = {**facts, "best count": len(best)}
        if self._output is None:
            return
        stored = json.dumps({"identity": self._identity, "facts": self.facts})
        values = values_of(training_state(model))
        arrays = {f"variable {i}": each for i, each in enumerate(values)}
        arrays |= {f"best {i}": each for i, each in enumerate(best)}
        text = np.frombuffer(stored.encode(), np.uint8)
        save = functools.partial(_save, arrays={**arrays, _STORED: text})
        with write_errors_as(self._refuse):
            atomic_write(self._output / _STATE, save)

    def finish(self, facts: dict[str, Any]) -> None:
        """Writes that everything else is written.

        Args:
            facts: JSON values.
        """
        self.finished = facts
        if self._output is None:
            return
        stored = {"identity": self._identity, **facts}
        with write_errors_as(self._refuse):
            atomic_write_text(self._output / FACTS, json.dumps(stored, indent=2) + "\n")
            (self._output / _STATE).unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        with read_errors_as(self._damaged(path), "It cannot be read: {}."):
            # Read at once: a later call replaces the file.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            stored = json.loads(arrays.pop(_STORED).tobytes())
        self._checked(stored)
        self._arrays, self.facts = arrays, stored["facts"]

    def _read_facts(self, path: Path) -> dict[str, Any]:
        with read_errors_as(self._damaged(path), "It cannot be read: {}."):
            return json.loads(path.read_text(encoding="utf-8"))

    def _checked(self, stored: Any) -> dict[str, Any]:
        found = stored.get("identity") if isinstance(stored, dict) else None
        if not isinstance(found, dict):
            rule = f"a folder without a foreign {FACTS}"
            advice = "No `harden` wrote it; choose another folder."
            raise invalid(OWNER, "output", rule, str(self._output), advice=advice)
        other = [
            name for name, value in self._identity.items() if found.get(name) != value
        ]
        if other:
            rule = "a new folder, or that of the same call"
            advice = f"It holds a run with another {other[0]}; choose another folder."
            raise invalid(OWNER, "output", rule, str(self._output), advice=advice)
        return stored

    def _refuse(self, advice: str) -> ValueError:
        rule = "a folder that can be written to"
        return invalid(OWNER, "output", rule, str(self._output), advice=advice)

    def _damaged(self, path: Path) -> Any:
        def refuse(advice: str) -> ValueError:
            rule = "a folder with a whole run"
            said = f"{advice} Remove {path.name} in it to begin anew."
            return invalid(OWNER, "output", rule, str(self._output), advice=said)

        return refuse


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
