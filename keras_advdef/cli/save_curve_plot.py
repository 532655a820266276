"""The picture that goes with a report."""

from pathlib import Path
from typing import Any

from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

_STYLES = {"undefended": ("C3", "o"), "defended": ("C0", "s")}


def _draw_curve(
    axes: Any,
    epsilons: list[float],
    estimates: list[AccuracyEstimate],
    *,
    colour: str,
    marker: str,
    label: str,
) -> None:
    shares = [100 * estimate.accuracy for estimate in estimates]
    lows = [100 * estimate.interval[0] for estimate in estimates]
    highs = [100 * estimate.interval[1] for estimate in estimates]
    axes.plot(epsilons, shares, color=colour, marker=marker, label=label)
    axes.fill_between(epsilons, lows, highs, color=colour, alpha=0.2, linewidth=0)


def save_curve_plot(
    path: Path,
    *,
    title: str,
    epsilon: float,
    epsilons: list[float],
    curves: dict[str, list[AccuracyEstimate]],
) -> None:
    """Draws accuracy against epsilon, with the intervals as bands.

    Args:
        path: PNG file to write.
        title: Title of the picture.
        epsilon: The epsilon of the table, marked by a line.
        epsilons: The horizontal axis, in units of the pixels.
        curves: One estimate an epsilon for "undefended" and "defended".
    """
    # The object interface leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, estimates in curves.items():
        colour, marker = _STYLES[name]
        _draw_curve(axes, epsilons, estimates, colour=colour, marker=marker, label=name)
    axes.axvline(epsilon, color="0.4", linestyle="--", linewidth=1)
    axes.set(
        title=title,
        xlabel="epsilon (largest change of a pixel, of a range of 1)",
        ylabel="accuracy (%), with 95 % intervals",
        ylim=(0, 100),
        xlim=(0, max(epsilons)),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
