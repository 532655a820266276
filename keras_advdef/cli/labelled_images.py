"""Images and their classes in the one form the commands work with."""

import dataclasses
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import check_memory
from keras_advdef.core.value_range import (
    ValueRange,
    checked_images,
    checked_labels,
)

_MAX_CHANNELS = 4
_LISTED = 10


def unit_images(owner: str, images: Any) -> np.ndarray:
    """Returns images in `[0, 1]` of shape `(count, rows, cols, channels)`.

    Args:
        owner: What is named in error messages.
        images: Array of shape `(count, rows, cols)` or `(count, rows, cols, channels)`,
            whole numbers in `[0, 255]` or floats in `[0, 1]`; the whole numbers 0 and
            1 alone are black and white.

    Raises:
        ValueError: If shape or values do not fit, or memory is too small.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim == 4 and array.shape[-1] > _MAX_CHANNELS:
        rule = (
            f"of shape (count, rows, cols, channels), at most {_MAX_CHANNELS} channels"
        )
        advice = "Move the channels last with `np.moveaxis(images, 1, -1)`."
        raise invalid(owner, "images", rule, array, advice=advice)
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            rule = "whole numbers in [0, 255] or floats in [0, 1]"
            raise invalid(owner, "images", rule, (low, high))

        def refuse(advice: str) -> ValueError:
            rule = "as many as fit into memory"
            return invalid(owner, "images", rule, array, advice=advice)

        check_memory(4 * array.size, "Their 32-bit floats", refuse)
        # Black and white as 0 and 1 are in the range already.
        array = array.astype(np.float32) / np.float32(255 if high > 1 else 1)
    return checked_images(owner, array, ValueRange())


def label_numbers(owner: str, labels: Any) -> np.ndarray:
    """Returns labels as a non-empty array of finite numbers.

    Args:
        owner: What is named in error messages.
        labels: Whole numbers, one for each image, or one-hot rows.

    Raises:
        ValueError: If they are anything else.
    """
    array = np.asarray(labels)
    fits = array.size and array.dtype.kind in "fiu" and np.isfinite(array).all()
    if not fits:
        raise invalid(owner, "labels", "whole numbers, one for each image", array)
    return array


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Images to be attacked.

    Attributes:
        images: Images of shape `(count, rows, cols, channels)`, float32 in `[0, 1]`.
        labels: Labels of shape `(count,)`, int64, from 0 on.
        taken: Which images these are, to be printed.
    """

    images: np.ndarray
    labels: np.ndarray
    taken: str

    @classmethod
    def from_arrays(
        cls,
        name: str,
        *,
        images: Any,
        labels: Any,
        source: str,
        classes: tuple[str, ...] = (),
    ) -> "LabelledImages":
        """Returns checked images.

        Args:
            name: What the user passed as `--data`; error messages repeat it.
            images: As `unit_images` takes them.
            labels: Whole numbers of shape `(count,)` or `(count, 1)`, or one-hot.
            source: Where they come from, after "all 12 images of ".
            classes: Names of the classes in the order of their numbers, where there
                are names.

        Returns:
            The images, in the order given.

        Raises:
            ValueError: If an array is empty, out of range, not finite, or does not
                fit the other.
        """
        owner = f"--data {name}"
        pixels = unit_images(f"{owner}, x_test", images)
        numbers = label_numbers(f"{owner}, y_test", labels)
        is_one_hot = numbers.ndim == 2 and numbers.shape[1] > 1
        count = numbers.shape[1] if is_one_hot else max(int(numbers.max()) + 1, 1)
        checked = checked_labels(
            f"{owner}, y_test", numbers, count=len(pixels), classes=count
        )
        taken = f"all {len(pixels)} images of {source}"
        if classes:
            taken += f"; classes by name: {_numbered(classes)}"
        return cls(images=pixels, labels=checked, taken=taken)


def _numbered(names: tuple[str, ...]) -> str:
    shown = [f"{number} {name}" for number, name in enumerate(names)]
    if len(shown) > _LISTED:
        shown = [*shown[: _LISTED - 2], "...", shown[-1]]
    return ", ".join(shown)
