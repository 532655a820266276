"""shared_report: gives the workers of a cluster the report that the chief has found."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_advdef.core.replicas import Replicas
from keras_advdef.evaluation._report.seal import SEAL
from keras_advdef.evaluation.robustness_report import KEPT, RobustnessReport


def shared_report(
    replicas: Replicas, output: Path, find: Callable[[], RobustnessReport | None]
) -> RobustnessReport | None:
    """Returns the report in a folder that only the chief may be able to read.

    Args:
        replicas: Those of the evaluation.
        output: The folder.
        find: Returns the report in it, if there is one; called on the chief.

    Raises:
        Exception: What `find` raised, on all workers.
    """
    found: list[RobustnessReport] = []

    def read() -> dict[str, np.ndarray]:
        report = find()
        if report is None:
            return {}
        found.append(report)
        paths = [output / name for name in sorted({*KEPT, SEAL})]
        return {
            path.name: np.frombuffer(path.read_bytes(), np.uint8)
            for path in paths
            if replicas.has_workers and path.is_file()
        }

    files = replicas.on_chief(read)
    if found or not files:
        return found[0] if found else None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content.tobytes())
        return RobustnessReport.load(folder)
