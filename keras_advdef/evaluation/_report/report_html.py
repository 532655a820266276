"""Renders a report as one self-contained HTML page."""

import dataclasses
from typing import Any

from keras_advdef.core.text import printable
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation._report.page_images import (
    Triptych,
    figure_url,
    triptychs,
)
from keras_advdef.evaluation._report.plain_words import plain_words, right_of
from keras_advdef.evaluation._report.report_markdown import about, report_tables
from keras_advdef.evaluation.corruption_report import CorruptionReport

# Twice the pixels that a page of this width shows, for sharp screens.
_WIDE_DPI, _NARROW_DPI = 150, 200
# Longer tables are folded.
_LONG = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a page.

    Attributes:
        wide: The curves, a matplotlib figure for a desk.
        narrow: The same for a phone.
        gallery: The most fragile and the most robust images, or `None`.
        example: One image at epsilon, or `None`.
        corruptions: Accuracies with common corruptions, a matplotlib figure or `None`.
    """

    wide: Any
    narrow: Any
    gallery: Gallery | None = None
    example: Gallery | None = None
    corruptions: Any = None


def report_html(data: dict[str, Any], pictures: Pictures) -> str:
    """Returns the page: no scripts, no external resources, readable on a phone.

    Args:
        data: The contents of `report.json`.
        pictures: The pictures to inline.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("keras_advdef.evaluation", "templates")
    template = Environment(loader=loader, autoescape=True).get_template("report.html")
    epsilon = epsilon_label(data["epsilon"], data["norm"], data["value_range"])
    return template.render(
        about=about(data),
        words=plain_words(data),
        bars=_bars(data),
        headline=printable(data["headline"]),
        finding=printable(data["union"]["finding"]) if "union" in data else "",
        epsilon=epsilon,
        example=next(iter(triptychs(pictures.example, data)), None),
        groups=_groups(triptychs(pictures.gallery, data)),
        wide=figure_url(pictures.wide, dpi=_WIDE_DPI),
        narrow=figure_url(pictures.narrow, dpi=_NARROW_DPI),
        corruption_finding=_finding(data),
        corruptions=None
        if pictures.corruptions is None
        else figure_url(pictures.corruptions, dpi=_NARROW_DPI),
        tables=report_tables(data),
        long=_LONG,
    )


def _finding(data: dict[str, Any]) -> str:
    values = data.get("corruptions")
    return (
        "" if values is None else printable(CorruptionReport.from_json(values).finding)
    )


_Share = tuple[str, str, int, float]


def _bars(data: dict[str, Any]) -> list[tuple[str, list[_Share]]]:
    """The bars of the model and of the reference, with their names."""
    other = data.get("reference")
    if other is None:
        return [("", _shares(data))]
    return [("the model", _shares(data)), ("the reference", _shares(other))]


def _shares(data: dict[str, Any]) -> list[_Share]:
    """The kinds of images in a bar: class of style, name, number and percentage."""
    count, clean, left = (
        data["clean"]["count"],
        right_of(data["clean"]),
        right_of(data["adaptive"]),
    )
    kinds = (
        ("kept", "right, whatever the attacks did", left),
        ("lost", "right, but some attack succeeds", max(clean - left, 0)),
        ("wrong", "wrong without any attack", count - max(clean, left)),
    )
    return [
        (style, name, number, 100 * number / max(count, 1))
        for style, name, number in kinds
    ]


def _groups(images: list[Triptych]) -> list[tuple[str, list[Triptych]]]:
    """Splits a full gallery into its two ends."""
    half = len(images) // 2
    if half < 4:
        return [("From the most fragile to the most robust", images)] if images else []
    return [("The most fragile", images[:half]), ("The most robust", images[half:])]
