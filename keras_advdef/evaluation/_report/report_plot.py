"""Plots a report: accuracy against epsilon and radius, with the gallery below."""

from typing import Any

from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation.draw_curve import draw_curve, plain_text


def report_plot(data: dict[str, Any], gallery: Gallery | None) -> Any:
    """Returns a matplotlib figure.

    Args:
        data: The contents of `report.json`.
        gallery: Images to show, or `None`.
    """
    # The object interface leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    if gallery is None:
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        _draw_curves(figure, data)
        return figure
    figure = Figure(figsize=(7.0, 7.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1.0))
    above, below = parts
    _draw_curves(above, data)
    below.suptitle(
        "The most fragile and the most robust images: true class, magnification of "
        "the perturbation,\npredicted class and norm of the perturbation",
        fontsize=9,
    )
    gallery.draw(below.subplots(3, len(gallery.clean), squeeze=False))
    return figure


def _draw_curves(figure: Any, data: dict[str, Any]) -> None:
    """Draws accuracy under attack and, beside it, certified accuracy if any."""
    certified = data.get("certified")
    if certified is None:
        _draw_curve(figure.subplots(), data)
        return
    attacked, proved = figure.subplots(1, 2, sharey=True)
    _draw_curve(attacked, data)
    points = [{**each, "epsilon": each["radius"]} for each in certified["curve"]]
    draw_curve(proved, points, color="C2", marker="s")
    proved.set(
        xlabel=plain_text(f"{certified['norm']} radius"),
        title="certified accuracy",
        xlim=(0, max(point["epsilon"] for point in points) or 1),
    )
    attacked.set_title("under attack")
    proved.grid(alpha=0.3)


def _draw_curve(axes: Any, data: dict[str, Any]) -> None:
    draw_curve(axes, data["curve"], color="C0", marker="o")
    axes.axvline(data["epsilon"], color="0.4", linestyle="--", linewidth=1)
    low, high = data["value_range"]
    axes.set(
        xlabel=plain_text(f"epsilon ({data['norm']}, pixels from {low:g} to {high:g})"),
        ylabel="accuracy (%), with 95 % intervals",
        ylim=(0, 100),
        xlim=(0, max(point["epsilon"] for point in data["curve"]) or 1),
    )
    axes.grid(alpha=0.3)
