"""compare_reports: a table of several reports, such as without and with a defence."""

from collections.abc import Sequence
from typing import Any

from keras_advdef.core.errors import invalid
from keras_advdef.core.text import markdown_table
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.corruption_report import CorruptionReport
from keras_advdef.evaluation.robustness_report import RobustnessReport

# What must agree for accuracies to be comparable.
_SHARED = ("epsilon", "norm", "value_range", "budget", "images")


def compare_reports(
    reports: Sequence[RobustnessReport], names: Sequence[str] | None = None
) -> str:
    """Returns a Markdown table with one column for each report.

    Args:
        reports: At least two, with the same epsilon, norm, value range, budget and
            number of images.
        names: Titles of the columns; `None` for "undefended" and "defended" if there
            are two reports, else for numbers.

    Raises:
        ValueError: If there are fewer than two reports, or they cannot be compared.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.random.default_rng(0).uniform(size=(4, 2, 2, 1))
    >>> report = keras_advdef.evaluation.evaluate_robustness(
    ...     model, images, [0, 1] * 2, epsilon=0.1, budget="quick", verbose=0)
    >>> print(keras_advdef.evaluation.compare_reports([report, report])[:29])
    |  | undefended | defended |
    """
    data = [report.data for report in reports]
    if len(data) < 2:
        raise invalid("compare_reports", "reports", "at least two", len(data))
    for name in _SHARED:
        values = [each[name] for each in data]
        if any(value != values[0] for value in values):
            rule = f"reports with the same {name}"
            raise invalid("compare_reports", "reports", rule, values)
    if names is None:
        numbers = [str(number) for number in range(1, len(data) + 1)]
        names = ["undefended", "defended"] if len(data) == 2 else numbers
    if len(names) != len(data):
        rule = f"as many as the reports, {len(data)}"
        raise invalid("compare_reports", "names", rule, list(names))
    rows = [
        ["clean images", *(percent(each["clean"]) for each in data)],
        ["naive attack", *(percent(each["naive"]) for each in data)],
        ["all attacks", *(percent(each["adaptive"]) for each in data)],
        *_norms(data),
        *_corruptions(data),
        ["gradient masking suspected", *(_yes(each) for each in data)],
        ["failed checks", *(_failed(each) for each in data)],
        ["median smallest perturbation", *(_median(each) for each in data)],
    ]
    return markdown_table(["", *names], rows)


def _norms(data: list[dict[str, Any]]) -> list[list[str]]:
    """The rows of further norms, if all reports have the same ones."""
    balls = [
        [(each["norm"], each["epsilon"]) for each in one.get("norms", [])]
        for one in data
    ]
    if not balls[0] or any(each != balls[0] for each in balls):
        return []
    rows = [
        [
            f"all attacks, {norm} {epsilon:.4g}",
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
    return ", ".join(failed) or "none"


def _median(data: dict[str, Any]) -> str:
    smallest = data["duties"]["smallest_perturbation"]
    return f"{smallest['median']:.4g}" if smallest and smallest["median"] else "unknown"
