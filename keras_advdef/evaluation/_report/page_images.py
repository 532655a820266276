"""Pictures inside an HTML page: data URLs of figures and of a gallery's images."""

import dataclasses
from typing import Any

import numpy as np

from keras_advdef.core.pictures import data_url
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.class_label import class_label
from keras_advdef.evaluation._report.draw_gallery import magnified, norm_label

# Larger images would make the page heavy; smaller ones are shown pixel by pixel.
_LARGEST_SIDE = 192
_SMALL_SIDE = 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Triptych:
    """One image clean, its perturbation magnified, and it adversarial.

    Attributes:
        clean: Data URL of the image.
        change: Data URL of the perturbation.
        adversarial: Data URL of the adversarial image.
        true: Name of the true class.
        predicted: Name of the predicted class.
        factor: Magnification of the perturbation.
        size: Norm of the perturbation.
        is_small: Whether the pixels are large enough to be shown as squares.
    """

    clean: str
    change: str
    adversarial: str
    true: str
    predicted: str
    factor: str
    size: str
    is_small: bool


def triptychs(gallery: Gallery | None, data: dict[str, Any]) -> list[Triptych]:
    """Returns the images of a gallery for a page.

    Args:
        gallery: The images, or `None` for none.
        data: The contents of `report.json`.
    """
    if gallery is None:
        return []
    names = data.get("class_names")
    found = []
    for column in range(len(gallery.clean)):
        panels = gallery.panels(column)
        clean, change, adversarial = map(_image_url, panels)
        found.append(
            Triptych(
                clean=clean,
                change=change,
                adversarial=adversarial,
                true=class_label(int(gallery.labels[column]), names),
                predicted=class_label(int(gallery.predicted[column]), names),
                factor=magnified(gallery.magnification(column)),
                size=norm_label(gallery.norms[column], data),
                is_small=max(panels[0].shape[:2]) < _SMALL_SIDE,
            )
        )
    return found


def _image_url(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    scaled = reduced(image)
    return data_url(
        lambda buffer: imsave(
            buffer, scaled, format="png", cmap="gray", vmin=0.0, vmax=1.0
        )
    )


def reduced(image: np.ndarray) -> np.ndarray:
    """Averages blocks of pixels so that the sides fit a page.

    Args:
        image: Array `(rows, cols)` or `(rows, cols, channels)`.
    """
    step = -(-max(image.shape[:2]) // _LARGEST_SIDE)
    rows, cols = (max(side // step, 1) for side in image.shape[:2])
    height, width = min(step, image.shape[0]), min(step, image.shape[1])
    part = image[: rows * height, : cols * width]
    return part.reshape(rows, height, cols, width, *image.shape[2:]).mean(axis=(1, 3))
