"""Plots a report: accuracy against epsilon and radius, with the gallery below."""

from typing import Any

from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.curve_figure import curve_figure, draw_curves
from keras_advdef.evaluation._report.draw_gallery import draw_gallery


def report_plot(data: dict[str, Any], gallery: Gallery | None) -> Any:
    """Returns a matplotlib figure.

    Args:
        data: The contents of `report.json`.
        gallery: Images to show, or `None`.
    """
    # The object interface leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    if gallery is None:
        return curve_figure(data)
    figure = Figure(figsize=(8.0, 8.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.1))
    above, below = parts
    draw_curves(above, data)
    below.suptitle(
        "The most fragile and the most robust images: true class, magnification of "
        "the perturbation,\npredicted class and norm of the perturbation",
        fontsize=9,
    )
    axes = below.subplots(3, len(gallery.clean), squeeze=False)
    draw_gallery(axes, gallery, data)
    return figure
