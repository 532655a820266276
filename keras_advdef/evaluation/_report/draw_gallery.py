"""draw_gallery: the images of a gallery in a matplotlib figure."""

from typing import Any

from keras_advdef.core.text import shortened
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.class_label import class_label
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation.draw_curve import plain_text

_ROWS = ("clean", "perturbation", "adversarial")
# Characters of a title above a small image.
_LONGEST = 13


def draw_gallery(axes: Any, gallery: Gallery, data: dict[str, Any]) -> None:
    """Draws clean images, perturbations and adversarial images, one column each.

    Args:
        axes: Array of matplotlib axes, three rows and as many columns as images.
        gallery: The images.
        data: The contents of `report.json`.
    """
    names = data.get("class_names")
    for column in range(len(gallery.clean)):
        true, found = (
            shortened(class_label(int(each[column]), names), _LONGEST)
            for each in (gallery.labels, gallery.predicted)
        )
        size = norm_label(gallery.norms[column], data)
        titles = ([true], [magnified(gallery.magnification(column))], [found, size])
        panels = zip(axes[:, column], gallery.panels(column), titles, strict=True)
        for place, image, lines in panels:
            place.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
            place.set(xticks=[], yticks=[])
            place.set_title("\n".join(map(plain_text, lines)), fontsize=8)
    for row, name in enumerate(_ROWS):
        axes[row, 0].set_ylabel(name, fontsize=8)


def magnified(factor: float) -> str:
    """Returns a magnification to two digits, without an exponent.

    Args:
        factor: The magnification.

    Example:

    >>> from keras_advdef.evaluation._report.draw_gallery import magnified
    >>> magnified(6220.0), magnified(3.48)
    ('x 6,200', 'x 3.5')
    """
    rounded = float(f"{min(factor, 1e9):.2g}")
    return f"x {rounded:.1f}" if rounded < 10 else f"x {rounded:,.0f}"


def norm_label(norm: float, data: dict[str, Any]) -> str:
    """Returns the norm of a perturbation for a picture.

    Args:
        norm: In the units of the value range.
        data: The contents of `report.json`.
    """
    return epsilon_label(float(norm), data["norm"], data["value_range"])
