"""The report that lies in an evaluation's folder: returned, mended or refused."""

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
    REPORT,
    RobustnessReport,
)


def finished_report(
    output: Path, identity: dict[str, Any], progress: Progress
) -> RobustnessReport | None:
    """Returns the report of an evaluation that has ended before.

    What is missing or damaged of it is written again where the rest says what it was;
    else there is no report, and the evaluation has to run again. A report.json that no
    evaluation has written is never replaced.

    Args:
        output: The evaluation's folder.
        identity: What makes the evaluation this one.
        progress: Who is told.

    Returns:
        The report, or `None` if there is none or it is lost.

    Raises:
        ValueError: If another evaluation's report lies there, or something that none
            has written.
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
        progress.line(_said(lost, "damaged or gone; the evaluation is run again"))
        return None
    report = RobustnessReport.load(output)
    if drawn:
        progress.line(_said(drawn, "damaged, changed or gone; written again"))
        save_report(report, output)
    progress.line("This evaluation is finished; this is its report.")
    return report


def _check_unsealed(output: Path, identity: dict[str, Any], progress: Progress) -> None:
    """Raises if a report without a seal may be somebody else's."""
    if not (output / REPORT).exists():
        return
    found = read_json(output / REPORT)
    run = found.get("run") if isinstance(found, dict) else None
    known = run.get("identity") if isinstance(run, dict) else None
    if not isinstance(known, dict):
        rule = "a folder without a report.json of another origin"
        advice = "That file is damaged or no evaluation's; choose another folder."
        raise rejected(output, rule, advice)
    check_identity(output, known, identity)
    progress.line(_said([SEAL], "damaged or gone; the evaluation is run again"))


def _said(names: list[str], what: str) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"Of the report that lies there, {listed(names)} {verb} {what}."


def save_report(report: RobustnessReport, output: Path) -> None:
    """Writes a report to an evaluation's folder.

    Args:
        report: The report.
        output: The folder.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        report.save(output)
    except OSError as error:
        raise cannot_write(output, error) from error
