"""Returns, repairs or rejects the report in an evaluation's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._report.seal import SEAL, Seal
from keras_advdef.evaluation._run.ledger import (
    cannot_write,
    check_identity,
    in_the_way,
    rejected,
)
from keras_advdef.evaluation._run.sealed import read_json
from keras_advdef.evaluation._verdict.headline import listed
from keras_advdef.evaluation.robustness_report import (
    FILES,
    KEPT,
    MODEL_CARD,
    REPORT,
    RobustnessReport,
)


def finished_report(
    output: Path, identity: dict[str, Any], progress: Progress
) -> RobustnessReport | None:
    """Returns the report of an evaluation that has already finished.

    Missing or damaged files are rewritten if they can be drawn from the others;
    otherwise the evaluation has to run again. A report.json that was not written by an
    evaluation is never replaced.

    Args:
        output: The evaluation's folder.
        identity: Identifies the evaluation.
        progress: Receives progress messages.

    Returns:
        The report, or `None` if there is none or it is lost.

    Raises:
        ValueError: If the folder holds another evaluation's report, or a report.json
            that was not written by an evaluation.
    """
    for name in (*FILES, SEAL):
        if (output / name).is_dir():
            raise in_the_way(output, output / name)
    seal = Seal.of(output)
    if seal is None:
        _check_unsealed(output, identity, progress)
        return None
    check_identity(output, seal.identity, identity)
    damaged = seal.damaged
    lost, drawn = sorted(damaged & KEPT), sorted(damaged - KEPT)
    if lost:
        progress.line(_said(lost, "missing or damaged; running the evaluation again"))
        return None
    report = RobustnessReport.load(output)
    if drawn:
        progress.line(_said(drawn, "missing, damaged or changed; rewriting"))
        save_report(report, output, model_card=MODEL_CARD in seal.files)
    progress.line("This evaluation has already finished; returning its report.")
    return report


def renamed(
    report: RobustnessReport,
    output: Path,
    *,
    class_names: Sequence[str] | None,
    data_name: str,
) -> RobustnessReport:
    """Writes a finished report again if classes or data are given other names.

    Names change no result, so they do not identify an evaluation.

    Args:
        report: The report in the folder.
        output: The folder.
        class_names: Names of the classes; `None` leaves them as they are.
        data_name: What the images are; "" leaves it as it is.

    Returns:
        The report with these names.
    """
    data, about = report.data, report.data["run"].get("data", {})
    before = data.get("class_names"), about.get("name")
    if class_names is not None:
        data["class_names"] = list(class_names)
    if data_name and about:
        about["name"] = data_name
    if (data.get("class_names"), about.get("name")) != before:
        save_report(report, output, model_card=(output / MODEL_CARD).is_file())
    return report


def _check_unsealed(output: Path, identity: dict[str, Any], progress: Progress) -> None:
    """Raises if a report without a seal may come from somewhere else."""
    if not (output / REPORT).exists():
        return
    found = read_json(output / REPORT)
    run = found.get("run") if isinstance(found, dict) else None
    known = run.get("identity") if isinstance(run, dict) else None
    if not isinstance(known, dict):
        rule = "a folder without a foreign report.json"
        advice = "It is damaged or no evaluation wrote it; choose another folder."
        raise rejected(output, rule, advice)
    check_identity(output, known, identity)
    progress.line(_said([SEAL], "missing or damaged; running the evaluation again"))


def _said(names: list[str], what: str) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"In the existing report, {listed(names)} {verb} {what}."


def save_report(
    report: RobustnessReport, output: Path, *, model_card: bool = False
) -> None:
    """Writes a report to an evaluation's folder.

    Args:
        report: The report.
        output: The folder.
        model_card: Whether to write the model card, too.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        report.save(output, model_card=model_card)
    except OSError as error:
        raise cannot_write(output, error) from error
