"""Plots the accuracy with corruptions: one row of numbers beside each example."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_advdef.evaluation.draw_curve import plain_text

# Title, example, accuracies in percent by severity, and their mean.
Row = tuple[str, np.ndarray | None, Sequence[float], float]

# In inches: readable on a phone, where the page shrinks the picture.
_WIDTH = 4.6
_CELL = 0.42
# In cells: the titles of the rows, half of that of the columns, and what is between.
_TITLES = 3.7
_TITLE = 2.1
_HEADER = 1.6
_GAP = 0.25
_MARGIN = 0.1
_THUMBNAIL = 0.92
# Cells darker than this, in percent, take white numbers.
_DARK = 60.0


def corruption_plot(rows: Sequence[Row], severities: Sequence[int]) -> Any:
    """Returns a matplotlib figure.

    Args:
        rows: The rows from top to bottom, the first for the clean images.
        severities: Titles of the columns.
    """
    from matplotlib.figure import Figure

    columns = len(severities)
    right = columns + _GAP + 1 + _MARGIN
    width = _TITLES + 1 + right
    height = len(rows) + _HEADER + _MARGIN
    cell = min(_CELL, _WIDTH / width)
    figure = Figure(figsize=(cell * width, cell * height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(-_TITLES - 1, right), ylim=(len(rows) + _MARGIN, -_HEADER))
    axes.axis("off")
    for place, severity in enumerate(severities):
        _write(axes, (place + 0.5, -0.35), str(severity))
    # Above the numbers, if they are wide enough to hold it.
    middle = min(columns / 2, right - _TITLE)
    _write(axes, (middle, -1.1), "accuracy (%) by severity")
    _write(axes, (columns + _GAP + 0.5, -0.35), "mean")
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, mean_at=columns + _GAP)
    return figure


def _draw_row(axes: Any, place: int, row: Row, *, mean_at: float) -> None:
    title, example, shares, mean = row
    _write(axes, (-1.15, place + 0.5), title, ha="right")
    if example is not None:
        _draw_example(axes, place, example)
    for index, share in enumerate(shares):
        _draw_cell(axes, (index, place), share)
    _draw_cell(axes, (mean_at, place), mean)


def _draw_example(axes: Any, place: int, example: np.ndarray) -> None:
    # A grey image, and one of two channels, is shown as its first channel.
    shown = example if example.shape[-1] in (3, 4) else example[..., 0]
    rows, cols = shown.shape[:2]
    high, wide = (_THUMBNAIL * each / max(rows, cols) / 2 for each in (rows, cols))
    middle = place + 0.5
    inside = (-0.5 - wide, -0.5 + wide, middle + high, middle - high)
    axes.imshow(shown, extent=inside, cmap="gray", vmin=0.0, vmax=1.0)


def _draw_cell(axes: Any, corner: tuple[float, int], share: float) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    left, top = corner
    colour = colormaps["Blues"](0.05 + 0.9 * share / 100)
    axes.add_patch(Rectangle(corner, 1, 1, fc=colour, ec="white", lw=0.8))
    ink = "white" if share > _DARK else "black"
    _write(axes, (left + 0.5, top + 0.5), f"{share:.0f}", color=ink)


def _write(axes: Any, at: tuple[float, float], text: str, **style: Any) -> None:
    where = {"ha": "center", "va": "center", "fontsize": 10, **style}
    axes.text(*at, plain_text(text), **where)
