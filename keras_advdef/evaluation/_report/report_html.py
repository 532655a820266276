"""Renders a report as one self-contained HTML page."""

import dataclasses
from typing import Any

from keras_advdef.core.pictures import figure_url
from keras_advdef.core.text import printable
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation._report.page import Share, render_page, shares
from keras_advdef.evaluation._report.page_images import (
    Triptych,
    triptychs,
)
from keras_advdef.evaluation._report.plain_words import plain_words
from keras_advdef.evaluation._report.report_markdown import (
    about,
    headlines,
    report_tables,
)
from keras_advdef.evaluation.corruption_report import CorruptionReport

# Twice the pixels that a page of this width shows, for sharp screens.
WIDE_DPI, NARROW_DPI = 150, 200


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
    """Returns the page of a report.

    Args:
        data: The contents of `report.json`.
        pictures: The pictures to inline.
    """
    epsilon = epsilon_label(data["epsilon"], data["norm"], data["value_range"])
    return render_page(
        "report.html",
        about=about(data),
        words=plain_words(data),
        bars=_bars(data),
        headlines=headlines(data),
        epsilon=epsilon,
        example=next(iter(triptychs(pictures.example, data)), None),
        groups=_groups(triptychs(pictures.gallery, data)),
        wide=figure_url(pictures.wide, dpi=WIDE_DPI),
        narrow=figure_url(pictures.narrow, dpi=NARROW_DPI),
        corruption_finding=_finding(data),
        corruptions=None
        if pictures.corruptions is None
        else figure_url(pictures.corruptions, dpi=NARROW_DPI),
        tables=report_tables(data),
    )


def _finding(data: dict[str, Any]) -> str:
    values = data.get("corruptions")
    return (
        "" if values is None else printable(CorruptionReport.from_json(values).finding)
    )


def _bars(data: dict[str, Any]) -> list[tuple[str, list[Share]]]:
    """The bars of the model and of the reference, with their names."""
    other = data.get("reference")
    if other is None:
        return [("", shares(data))]
    return [("the model", shares(data)), ("the reference", shares(other))]


def _groups(images: list[Triptych]) -> list[tuple[str, list[Triptych]]]:
    """Splits a full gallery into its two ends."""
    half = len(images) // 2
    if half < 4:
        return [("From the most fragile to the most robust", images)] if images else []
    return [("The most fragile", images[:half]), ("The most robust", images[half:])]
