"""Draws the curves of a report: accuracy against epsilon and certified radius."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_advdef.core.text import shortened
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation.draw_curve import draw_curve, plain_text

_Named = Sequence[tuple[str, dict[str, Any]]]

_STYLES: tuple[dict[str, Any], ...] = (
    {"marker": "o", "linestyle": "-"},
    {"marker": "s", "linestyle": "--"},
    {"marker": "^", "linestyle": "-."},
    {"marker": "D", "linestyle": ":"},
)
# Characters of a name in the legend.
_LONGEST = 24
_LEVELS = 255
_MOST_LEVELS = 255.0
_ROUNDED = 1.0 + 1e-5


def curve_figure(
    data: dict[str, Any],
    *,
    beside: _Named = (),
    is_narrow: bool = False,
) -> Any:
    """Returns a matplotlib figure of the curves alone.

    Args:
        data: The contents of `report.json`.
        beside: Names and contents of reports whose curves under attack are drawn
            together, instead of those of `data`.
        is_narrow: Whether it is for a phone, whose plots stand one above the other.
    """
    # The object interface leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    is_single = bool(beside) or data.get("certified") is None
    size = (3.8, 3.2 if is_single else 6.2) if is_narrow else (8.0, 4.0)
    figure = Figure(figsize=size, layout="constrained")
    if beside:
        _draw_attacked(figure.subplots(), data, beside)
    else:
        draw_curves(figure, data, is_narrow=is_narrow)
    return figure


def draw_curves(figure: Any, data: dict[str, Any], *, is_narrow: bool = False) -> None:
    """Draws accuracy under attack and, beside it, certified accuracy if any.

    Args:
        figure: A matplotlib figure or subfigure.
        data: The contents of `report.json`.
        is_narrow: Whether to draw one below the other.
    """
    certified = data.get("certified")
    if certified is None:
        _draw_attacked(figure.subplots(), data, _curves(data))
        return
    shape = (2, 1) if is_narrow else (1, 2)
    attacked, proved = figure.subplots(*shape, sharey=True)
    _draw_attacked(attacked, data, _curves(data))
    points = [{**each, "epsilon": each["radius"]} for each in certified["curve"]]
    draw_curve(proved, points, color="C2", marker="s")
    proved.set(
        xlabel=plain_text(f"{certified['norm']} radius"),
        title="certified accuracy",
        xlim=(0, max(point["epsilon"] for point in points) or 1),
    )
    attacked.set_title("under attack")
    proved.grid(alpha=0.3)


def _curves(data: dict[str, Any]) -> _Named:
    """The curve of the model and, if there is a reference, its curve beside."""
    other = data.get("reference")
    return [("", data)] if other is None else [("model", data), ("reference", other)]


def _draw_attacked(axes: Any, data: dict[str, Any], curves: _Named) -> None:
    for place, (name, each) in enumerate(curves):
        style = _STYLES[place % len(_STYLES)]
        label = shortened(name, _LONGEST)
        draw_curve(axes, each["curve"], color=f"C{place}", label=label, **style)
    if len(curves) > 1:
        axes.legend()
    epsilon, norm, pixels = data["epsilon"], data["norm"], data["value_range"]
    axes.axvline(epsilon, color="0.4", linestyle="--", linewidth=1)
    largest = max(p["epsilon"] for _, each in curves for p in each["curve"]) or 1
    axes.set(
        xlabel=plain_text(_axis_label(norm, pixels)),
        ylabel="accuracy (%)",
        ylim=(0, 100),
        xlim=(0, largest),
    )
    label_epsilons(axes, largest, norm=norm, value_range=pixels)
    axes.grid(alpha=0.3)


def _axis_label(norm: str, pixels: list[float]) -> str:
    low, high = pixels
    if norm == "linf":
        return "epsilon: largest change of a pixel, of its range"
    return f"epsilon: {norm} norm of the change, pixels from {low:g} to {high:g}"


def label_epsilons(
    axes: Any, largest: float, *, norm: str, value_range: list[float]
) -> None:
    """Labels a horizontal axis with n/255 where epsilon is a change of pixels.

    Args:
        axes: The matplotlib axes.
        largest: The end of the axis.
        norm: Norm of the epsilons.
        value_range: Lowest and highest pixel.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    span = value_range[1] - value_range[0]
    levels = largest / span * _LEVELS if span > 0 else np.inf
    if norm != "linf" or not 1.0 <= levels <= _MOST_LEVELS:
        return
    steps = [1, 2, 4, 8, 10]
    found = np.asarray(MaxNLocator(5, steps=steps).tick_values(0.0, levels))
    ticks = found * span / _LEVELS
    # The largest epsilon of a curve is rounded to six digits.
    shown = [tick for tick in ticks if 0 <= tick <= largest * _ROUNDED]
    axes.set_xticks([min(tick, largest) for tick in shown])

    def label(tick: float, place: int | None = None) -> str:
        return epsilon_label(tick, norm, value_range)

    axes.xaxis.set_major_formatter(FuncFormatter(label))
