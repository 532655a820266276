"""comparison_html: several reports side by side on one page."""

from collections.abc import Sequence
from typing import Any

from keras_advdef.core.pictures import figure_url
from keras_advdef.core.text import printable
from keras_advdef.evaluation._report.comparison_rows import comparison_rows
from keras_advdef.evaluation._report.curve_figure import curve_figure
from keras_advdef.evaluation._report.page import render_page, shares
from keras_advdef.evaluation._report.plain_words import plain_words
from keras_advdef.evaluation._report.report_html import NARROW_DPI, WIDE_DPI
from keras_advdef.evaluation._report.report_markdown import about

# What all compared reports have in common.
_SHARED = ("data", "images", "attacker")


def comparison_html(data: list[dict[str, Any]], names: Sequence[str]) -> str:
    """Returns the page.

    Args:
        data: The contents of each `report.json`.
        names: What the reports are called.
    """
    names = [printable(name) for name in names]
    facts = [dict(about(each)) for each in data]
    shared = [
        (name, facts[0][name])
        for name in _SHARED
        if name in facts[0] and all(each.get(name) == facts[0][name] for each in facts)
    ]
    words = [plain_words(each) for each in data]
    doubts = [
        (name, said.trust)
        for name, said in zip(names, words, strict=True)
        if said.is_doubtful
    ]
    curves = list(zip(names, data, strict=True))
    return render_page(
        "comparison.html",
        about=[*shared, *_apart(names, facts)],
        sentences=[
            (name, said.result) for name, said in zip(names, words, strict=True)
        ],
        doubts=doubts,
        bars=[(name, shares(each)) for name, each in curves],
        wide=figure_url(curve_figure(data[0], beside=curves), dpi=WIDE_DPI),
        narrow=figure_url(
            curve_figure(data[0], beside=curves, is_narrow=True), dpi=NARROW_DPI
        ),
        header=["", *names],
        rows=[[*map(printable, row)] for row in comparison_rows(data)],
    )


def _apart(names: list[str], facts: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The model and the date of each report."""
    return [
        (name, f"{each.get('model', 'model')}, {each['date']}")
        for name, each in zip(names, facts, strict=True)
    ]
