"""draw_curve: accuracy against epsilon in a matplotlib figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_advdef.core.text import printable


def draw_curve(
    axes: Any, points: Sequence[Mapping[str, Any]], *, label: str = "", **style: Any
) -> None:
    """Draws accuracies in percent against epsilon, with their intervals as a band.

    Args:
        axes: The matplotlib axes to draw on.
        points: Points of a curve, such as `report.data["curve"]`, with the keys
            `epsilon`, `accuracy` and `interval`.
        label: Name of the curve in a legend; "" for none.
        **style: Matplotlib's line properties; `color` also colours the band.

    Example:

    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> keras_advdef.evaluation.draw_curve(axes, [
    ...     {"epsilon": 0.0, "accuracy": 0.9, "interval": [0.8, 0.95]},
    ...     {"epsilon": 0.1, "accuracy": 0.4, "interval": [0.3, 0.5]}], color="C0")
    >>> axes.lines[0].get_ydata().tolist()
    [90.0, 40.0]
    """
    epsilons = [point["epsilon"] for point in points]
    shares = [100 * point["accuracy"] for point in points]
    if label:
        style["label"] = plain_text(label)
    (line,) = axes.plot(epsilons, shares, clip_on=False, **style)
    lows, highs = ([100 * point["interval"][end] for point in points] for end in (0, 1))
    axes.fill_between(
        epsilons, lows, highs, color=line.get_color(), alpha=0.2, linewidth=0
    )


def plain_text(text: str) -> str:
    r"""Escapes a text so that matplotlib draws it literally, in legends too.

    Args:
        text: Any text.

    Example:

    >>> from keras_advdef.evaluation.draw_curve import plain_text
    >>> print(plain_text("US$ and A$"))
    US\$ and A\$
    """
    # Matplotlib reads text between two dollar signs as a formula, and its legends omit
    # names that start with an underscore.
    text = printable(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
