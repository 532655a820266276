"""comparison_rows: what several reports say, side by side."""

from typing import Any

from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.corruption_report import CorruptionReport


def comparison_rows(data: list[dict[str, Any]]) -> list[list[str]]:
    """Returns rows with a title and one cell for each report.

    Args:
        data: The contents of each `report.json`.
    """
    return [
        ["clean images", *(percent(each["clean"]) for each in data)],
        ["naive attack", *(percent(each["naive"]) for each in data)],
        ["all attacks", *(percent(each["adaptive"]) for each in data)],
        *_norms(data),
        *_corruptions(data),
        ["gradient masking suspected", *(_yes(each) for each in data)],
        ["failed checks", *(_failed(each) for each in data)],
        ["median smallest perturbation", *(_median(each) for each in data)],
    ]


def _norms(data: list[dict[str, Any]]) -> list[list[str]]:
    """The rows of further norms, if all reports have the same ones."""
    balls = [
        [(each["norm"], each["epsilon"]) for each in one.get("norms", [])]
        for one in data
    ]
    if not balls[0] or any(each != balls[0] for each in balls):
        return []
    pixels = data[0]["value_range"]
    rows = [
        [
            f"all attacks, {norm} {epsilon_label(epsilon, norm, pixels)}",
            *(percent(one["norms"][place]["adaptive"]) for one in data),
        ]
        for place, (norm, epsilon) in enumerate(balls[0])
        if place
    ]
    return [*rows, ["any of the norms", *(percent(one["union"]) for one in data)]]


def _corruptions(data: list[dict[str, Any]]) -> list[list[str]]:
    """The row of common corruptions, if all reports have measured them."""
    if any(each.get("corruptions") is None for each in data):
        return []
    reports = [CorruptionReport.from_json(each["corruptions"]) for each in data]
    means = [percent(each.mean) for each in reports]
    return [["common corruptions, on average", *means]]


def _yes(data: dict[str, Any]) -> str:
    return "yes" if data["masking_suspected"] else "no"


def _failed(data: dict[str, Any]) -> str:
    failed = [each["name"] for each in data["checks"] if each["passed"] is False]
    return ", ".join(failed).replace("_", " ") or "none"


def _median(data: dict[str, Any]) -> str:
    smallest = data["duties"]["smallest_perturbation"]
    if not smallest or not smallest["median"]:
        return "unknown"
    return epsilon_label(smallest["median"], data["norm"], data["value_range"])
