"""Checks the images and labels that a model is evaluated on."""

from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.image_source import LoadedImages, load_images
from keras_advdef.core.value_range import ValueRange, checked_images


def checked_data(
    owner: str,
    images: Any,
    labels: Any,
    *,
    value_range: ValueRange,
    most: int | None = None,
) -> LoadedImages:
    """Returns images and labels as arrays.

    Args:
        owner: Name of the function that takes them.
        images: Array-like or data set of images in `value_range`.
        labels: Their true classes; `None` if the data set holds them.
        value_range: Range of the pixels.
        most: Largest number of images to read from a data set; `None` for all.

    Raises:
        ValueError: If there are no labels, or images and labels do not fit.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._request.image_data import checked_data
    >>> checked_data("f", np.ones((2, 3, 3)), [0, 1], value_range=ValueRange()).labels
    array([0, 1])
    """
    source = load_images(owner, images, labels, most=most)
    found = checked_images(owner, source.images, value_range)
    if source.labels is None:
        advice = "Pass the true classes; predictions would hide every mistake."
        raise invalid(owner, "labels", "given", source.labels, advice=advice)
    if np.shape(source.labels)[:1] != (len(found),):
        rule = f"as many as the images, {len(found)}"
        raise invalid(owner, "labels", rule, np.asarray(source.labels))
    return LoadedImages(found, np.asarray(source.labels), source.is_whole)


def check_image_shape(
    owner: str,
    taker: str,
    *,
    images: np.ndarray,
    expected: tuple[int | None, ...],
) -> None:
    """Raises if a model takes images of another shape.

    Args:
        owner: Name of the function that takes both.
        taker: Name of the argument that holds the model.
        images: The images, channel axis included.
        expected: Shape of one image as far as the model tells it; else empty.

    Raises:
        ValueError: If the shapes differ.
    """
    given = images.shape[1:]
    fits = len(expected) == len(given) and all(
        want in (None, size) for size, want in zip(given, expected, strict=True)
    )
    if expected and not fits:
        rule = f"of the shape that the {taker} takes, {expected}"
        raise invalid(owner, "images", rule, images)
