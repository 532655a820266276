"""Images and their classes in the form that the commands use."""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from keras_advdef.core.data.argument_name import part_owner
from keras_advdef.core.errors import invalid
from keras_advdef.core.labels import checked_labels
from keras_advdef.core.untrusted import check_memory
from keras_advdef.core.value_range import ValueRange, checked_images

_MAX_CHANNELS = 4
_MOST_LEVEL = 255
_LISTED = 10


def to_unit_range(owner: str, arrays: Mapping[str, ArrayLike]) -> list[np.ndarray]:
    """Returns images in `[0, 1]` of shape `(count, rows, cols, channels)`.

    Arrays of whole numbers that hold only 0 and 1 are taken as black and white, with a
    warning.

    Args:
        owner: Named in error messages.
        arrays: The parts of a data set by name, each of shape `(count, rows, cols)` or
            `(count, rows, cols, channels)`, whole numbers in `[0, 255]` or floats in
            `[0, 1]`.

    Raises:
        ValueError: If a shape or a value is not allowed, or memory is too small.
    """
    parts = {f"{owner}, {name}": np.asarray(part) for name, part in arrays.items()}
    whole = [part for part in parts.values() if part.dtype.kind in "iu" and part.size]
    _check_room(owner, whole)
    highest = max((int(part.max()) for part in whole), default=_MOST_LEVEL)
    if highest == 1:
        warnings.warn(
            f"{', '.join(parts)}: the whole numbers 0 and 1 alone are taken as black "
            "and white. If these are dark pixels of [0, 255], divide them by 255.",
            stacklevel=3,
        )
    level = _MOST_LEVEL if highest > 1 else 1
    return [_unit(part_owner, part, level) for part_owner, part in parts.items()]


def _check_room(owner: str, parts: list[np.ndarray]) -> None:
    def refuse(advice: str) -> ValueError:
        shapes = [part.shape for part in parts]
        return invalid(
            owner, "images", "few enough to fit into memory", shapes, advice=advice
        )

    needed = sum(part.nbytes + 4 * part.size for part in parts)
    check_memory(needed, "The images and their 32-bit floats", refuse)


def _unit(owner: str, array: np.ndarray, level: int) -> np.ndarray:
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
        if low < 0 or high > _MOST_LEVEL:
            rule = "whole numbers in [0, 255] or floats in [0, 1]"
            raise invalid(owner, "images", rule, (low, high))
        array = array.astype(np.float32)
        array /= np.float32(level)
    return checked_images(owner, array, ValueRange())


def numeric_labels(owner: str, labels: ArrayLike) -> np.ndarray:
    """Returns labels as a non-empty array of finite numbers.

    Args:
        owner: Named in error messages.
        labels: Whole numbers, one per image, or one-hot rows.

    Raises:
        ValueError: If they are anything else.
    """
    array = np.asarray(labels)
    fits = array.size and array.dtype.kind in "fiu" and np.isfinite(array).all()
    if not fits:
        raise invalid(owner, "labels", "whole numbers, one per image", array)
    return array


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Images to be attacked.

    Attributes:
        images: Images of shape `(count, rows, cols, channels)`, float32 in `[0, 1]`.
        labels: Labels of shape `(count,)`, int64, from 0.
        description: Which images these are, for the user.
        source: Where they come from, such as "the test part of digits".
        classes: Names of the classes in the order of their numbers, or `None`.
    """

    images: np.ndarray
    labels: np.ndarray
    description: str
    source: str
    classes: tuple[str, ...] | None

    @classmethod
    def from_arrays(
        cls,
        name: str,
        *,
        images: ArrayLike,
        labels: ArrayLike,
        source: str,
        classes: tuple[str, ...] = (),
    ) -> "LabelledImages":
        """Checks arrays and returns them as labelled images.

        Args:
            name: What the user passed as `--data`; error messages repeat it.
            images: Array as `to_unit_range` accepts it.
            labels: Whole numbers of shape `(count,)` or `(count, 1)`, or one-hot rows.
            source: Where they come from, after "all 12 images of ".
            classes: Names of the classes in the order of their numbers, if they have
                names.

        Returns:
            The images, in the given order.

        Raises:
            ValueError: If an array is empty, out of range, not finite, or does not
                match the other.
        """
        owner = part_owner(name)
        [pixels] = to_unit_range(owner, {"x_test": images})
        numbers = numeric_labels(f"{owner}, y_test", labels)
        is_one_hot = numbers.ndim == 2 and numbers.shape[1] > 1
        count = numbers.shape[1] if is_one_hot else max(int(numbers.max()) + 1, 1)
        checked = checked_labels(
            f"{owner}, y_test", numbers, count=len(pixels), classes=count
        )
        description = f"all {len(pixels)} images of {source}"
        if classes:
            description += f"; classes by name: {_numbered(classes)}"
        return cls(
            images=pixels,
            labels=checked,
            description=description,
            source=source,
            classes=classes or None,
        )


def _numbered(names: tuple[str, ...]) -> str:
    shown = [f"{number} {name}" for number, name in enumerate(names)]
    if len(shown) > _LISTED:
        shown = [*shown[: _LISTED - 2], "...", shown[-1]]
    return ", ".join(shown)
