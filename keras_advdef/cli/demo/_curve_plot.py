"""The plot that goes with a report."""

from pathlib import Path

from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.draw_curve import draw_curve, plain_text

_STYLES = {"undefended": ("C3", "o"), "defended": ("C0", "s")}


def save_curve_plot(
    path: Path,
    *,
    title: str,
    epsilon: float,
    epsilons: list[float],
    curves: dict[str, list[AccuracyEstimate]],
) -> None:
    """Plots accuracy against epsilon, with confidence bands.

    Args:
        path: PNG file to write.
        title: Title of the plot.
        epsilon: The epsilon of the table, marked by a vertical line.
        epsilons: The horizontal axis, in units of the pixels.
        curves: One estimate per epsilon for "undefended" and "defended".
    """
    # Unlike pyplot, this leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, estimates in curves.items():
        colour, marker = _STYLES[name]
        points = [
            {"epsilon": at, **estimate.to_json()}
            for at, estimate in zip(epsilons, estimates, strict=True)
        ]
        draw_curve(axes, points, color=colour, marker=marker, label=name)
    axes.axvline(epsilon, color="0.4", linestyle="--", linewidth=1)
    axes.set(
        title=plain_text(title),
        xlabel="epsilon (largest change of a pixel in [0, 1])",
        ylabel="accuracy (%), with 95 % intervals",
        ylim=(0, 100),
        xlim=(0, max(epsilons)),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
