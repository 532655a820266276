"""The picture of a report: accuracy against epsilon above the gallery."""

from typing import Any

from keras_advdef.evaluation.gallery import Gallery


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
        _draw_curves(figure.subplots(), {"accuracy": data})
        return figure
    figure = Figure(figsize=(7.0, 7.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1.0))
    above, below = parts
    _draw_curves(above.subplots(), {"accuracy": data})
    below.suptitle(
        "The most fragile and the most robust images: true class, magnification of "
        "the change,\nwhat the model takes it for and at which norm",
        fontsize=9,
    )
    gallery.draw(below.subplots(3, len(gallery.clean), squeeze=False))
    return figure


def curves_plot(reports: dict[str, dict[str, Any]]) -> Any:
    """Returns a matplotlib figure of several reports' curves.

    Args:
        reports: Contents of `report.json` by the name of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    _draw_curves(figure.subplots(), reports)
    return figure


def _draw_curves(axes: Any, reports: dict[str, dict[str, Any]]) -> None:
    largest = 0.0
    for index, (name, data) in enumerate(reports.items()):
        points = data["curve"]
        epsilons = [point["epsilon"] for point in points]
        largest = max(largest, *epsilons)
        accuracies = [100 * point["accuracy"] for point in points]
        low, high = zip(*(point["interval"] for point in points), strict=True)
        colour = f"C{index}"
        axes.plot(
            epsilons, accuracies, color=colour, marker="o", label=name, clip_on=False
        )
        axes.fill_between(
            epsilons,
            [100 * each for each in low],
            [100 * each for each in high],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        axes.axvline(data["epsilon"], color="0.4", linestyle="--", linewidth=1)
    low, high = data["value_range"]
    axes.set(
        xlabel=f"epsilon ({data['norm']}, pixels from {low:g} to {high:g})",
        ylabel="accuracy (%), with 95 % intervals",
        ylim=(0, 100),
        xlim=(0, largest),
    )
    axes.grid(alpha=0.3)
    if len(reports) > 1:
        axes.legend()
