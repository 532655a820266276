"""compare_reports: a table of several reports, such as without and with a defence."""

from collections.abc import Sequence
from typing import Any

from keras_advdef.core.errors import invalid
from keras_advdef.core.text import markdown_table
from keras_advdef.evaluation._report.comparison_html import comparison_html
from keras_advdef.evaluation._report.comparison_rows import comparison_rows
from keras_advdef.evaluation.robustness_report import RobustnessReport

# What must agree for accuracies to be comparable.
_SHARED = ("epsilon", "norm", "value_range", "budget", "images")


def compare_reports(
    reports: Sequence[RobustnessReport],
    names: Sequence[str] | None = None,
    *,
    html: bool = False,
) -> str:
    """Returns a Markdown table with one column for each report, or a page.

    The page has the sentences and the curves of the reports as well.

    Args:
        reports: At least two, of the same images with the same epsilon, norm, value
            range and budget.
        names: Titles of the columns; `None` for "undefended" and "defended" if there
            are two reports, else for numbers.
        html: Whether to return a self-contained HTML page instead.

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
    digests = {digest for each in data if (digest := _digest(each)) is not None}
    if len(digests) > 1:
        rule = "reports of the same images and labels"
        raise invalid("compare_reports", "reports", rule, sorted(digests))
    if names is None:
        numbers = [str(number) for number in range(1, len(data) + 1)]
        names = ["undefended", "defended"] if len(data) == 2 else numbers
    if len(names) != len(data):
        rule = f"as many as the reports, {len(data)}"
        raise invalid("compare_reports", "names", rule, list(names))
    if html:
        return comparison_html(data, names)
    return markdown_table(["", *names], comparison_rows(data))


def _digest(data: dict[str, Any]) -> str | None:
    """Returns what identifies the images of a report, if it was kept."""
    identity = data.get("run", {}).get("identity")
    digest = identity.get("data") if isinstance(identity, dict) else None
    return digest if isinstance(digest, str) else None
