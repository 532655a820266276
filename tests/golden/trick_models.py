"""The page of trick models, from what `benchmarks/trick_models.py` recorded.

`python -m benchmarks.trick_models` measures them, and writes `trick_models.json` beside
itself and `docs/trick_models.md`. After a change of the page's words alone,
`python -m tests.golden.refresh` writes the page.
"""

import json
from pathlib import Path
from typing import Any

from tests.support.trick_models import FAMILIES, HONEST

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "trick_models.json"
PAGE = ROOT / "docs" / "trick_models.md"
# The report may exceed the truth by this much.
NEAR = 0.05
MISSED = "**MISSED**"
_INTRODUCTION = """# Models that only look robust

Each model below hides a small undefended net, or is a published defence that fell. Its
*truth* is the accuracy that a hand-written attack leaves: one that knows the net
inside, attacks that, and judges the images on the model itself. Beside it stands what
`evaluate_robustness` says without knowing anything. A trick is

- **broken** if the report's accuracy is at most 5 points above the truth,
- **named** if the report suspects gradient masking, whatever its number,
- **MISSED** otherwise.

"robust" means that the headline calls the number a robust accuracy; otherwise it says
"accuracy under" some attacks. The honest nets at the end must raise no alarm.

The models are in `tests/support/trick_models`; a paper in brackets is what a model
stands for, and often the one that broke it."""

Row = dict[str, Any]


def recorded() -> dict[str, Any]:
    """Returns the recorded results, by data set."""
    if not RESULTS.is_file():
        return {}
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def verdict(row: Row) -> str:
    """Returns what the report did with a trick."""
    words = ["named"] * bool(row["suspected"])
    if row["refused"] is None and row["attacked"] <= row["truth"] + NEAR:
        words.append("broken")
    return ", ".join(words) or MISSED


def alarm(row: Row) -> str:
    """Returns what the report says against an honest net."""
    return "**ALARM**" if row["suspected"] or row["refused"] is not None else "none"


def page(results: dict[str, Any]) -> str:
    """Returns the documentation page of the results."""
    parts = [_INTRODUCTION]
    for name, result in results.items():
        parts += _data_set(name, result)
    return "\n\n".join(parts) + "\n"


def _data_set(name: str, result: dict[str, Any]) -> list[str]:
    settings, rows = result["settings"], result["rows"]
    tricks = [trick.name for family in FAMILIES.values() for trick in family]
    counted = [verdict(rows[each]) for each in tricks if each in rows]
    alarms = [alarm(rows[each.name]) for each in HONEST if each.name in rows]
    parts = [
        f"## {name}\n\n`{settings['command']}`: {settings['count']} images, linf, "
        f"epsilon {settings['epsilon']:g}, budget {settings['budget']}, seed "
        f"{settings['seed']}. Of {len(counted)} tricks, {counted.count(MISSED)} are "
        f"missed, {counted.count('named')} are named with a number far above the "
        f"truth, and {sum('broken' in each for each in counted)} are broken. Of "
        f"{len(alarms)} honest nets, {len(alarms) - alarms.count('none')} are accused."
    ]
    for title, family in FAMILIES.items():
        parts.append(_table(title, family, rows, verdict))
    parts.append(_table("Honest nets", HONEST, rows, alarm))
    return parts


def _table(title: str, kinds: list, rows: dict[str, Row], said: Any) -> str:
    is_honest = said is alarm
    last = "alarm" if is_honest else "verdict"
    lines = [
        f"### {title}\n",
        "| model | stands for | clean | truth | report | headline | failed checks | "
        f"{last} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(kind, rows[kind.name], said) for kind in kinds if kind.name in rows]
    return "\n".join(lines)


def _line(kind: Any, row: Row, said: Any) -> str:
    if row["refused"] is None:
        word = "robust" if row["robust"] else "accuracy under"
        cells = [_percent(row["attacked"]), word, ", ".join(row["failed"]) or "none"]
    else:
        cells = ["refused", "", row["refused"].partition(". ")[0].replace("|", "\\|")]
    shown = [_percent(row["clean"]), _percent(row["truth"]), *cells, said(row)]
    return f"| {kind.name} | {kind.stands_for} | {' | '.join(shown)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
