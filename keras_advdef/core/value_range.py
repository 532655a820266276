"""The range of a user's pixels, and the checks of images and epsilons against it."""

import warnings
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.model_inputs import add_channels

Images = TypeVar("Images", np.ndarray, tf.Tensor)

# Rounding may move valid pixels slightly out of range.
_TOLERANCE = 1e-6
_IMAGE_RANK = 4
# Advice for arrays of other ranks.
_OTHER_RANKS = {
    2: "For a model of vectors, put `keras.Input((rows, cols, 1))` and "
    "`keras.layers.Flatten()` in front of it, and pass images.",
    5: "For a model of volumes, put `keras.Input((depth * rows, cols, channels))` and "
    "`keras.layers.Reshape((depth, rows, cols, channels))` in front of it, and pass "
    "images of that shape.",
}
# A smaller epsilon, as a share of the range, is probably in the wrong units.
_SMALLEST_SHARE = 0.001
# At least this wide, a range is probably wrong if no pixel exceeds 1.
_WIDE_RANGE = 16.0


class ValueRange(NamedTuple):
    """The interval `[low, high]` of a user's pixels.

    Inside the package, images always lie in `[0, 1]`. For the default range, both maps
    return their input unchanged.

    Args:
        low: Smallest pixel value.
        high: Largest pixel value.

    Example:

    >>> pixels = keras_advdef.core.value_range.ValueRange(0.0, 255.0)
    >>> pixels.to_unit(np.array([0.0, 255.0])).tolist()
    [0.0, 1.0]
    >>> pixels.epsilon_text(8.0)
    '8 (0.0314 of the range)'
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def parse(cls, owner: str, value: object) -> "ValueRange":
        """Returns the range for a user's `value_range=(low, high)`.

        Args:
            owner: Name of the class that takes the argument.
            value: A pair of finite numbers, low before high.

        Returns:
            A `ValueRange` of two floats.

        Raises:
            ValueError: If the value is not such a pair.
        """
        rule = "a pair (low, high) of finite numbers with low < high"
        if not isinstance(value, (tuple, list)) or len(value) != len(cls._fields):
            raise invalid(owner, "value_range", rule, value)
        low, high = (checked_number(owner, "value_range", item) for item in value)
        if low >= high:
            raise invalid(owner, "value_range", rule, value)
        return cls(low, high)

    @property
    def span(self) -> float:
        """Width of the range, in pixel units."""
        return self.high - self.low

    @property
    def is_unit(self) -> bool:
        """Whether the range is `[0, 1]`."""
        return (self.low, self.high) == (0.0, 1.0)

    def to_unit(self, images: Images) -> Images:
        """Maps `[low, high]` to `[0, 1]`, for arrays and tensors alike."""
        return images if self.is_unit else (images - self.low) / self.span

    def from_unit(self, images: Images) -> Images:
        """Maps `[0, 1]` to `[low, high]`, for arrays and tensors alike."""
        return images if self.is_unit else images * self.span + self.low

    def pixels_of(self, images: Images) -> Images:
        """Maps `[0, 1]` to `[low, high]` and clips what rounding puts outside."""
        if self.is_unit:
            return images
        clip = tf.clip_by_value if tf.is_tensor(images) else np.clip
        return clip(self.from_unit(images), self.low, self.high)

    def epsilon_text(self, epsilon: float) -> str:
        """Returns an epsilon in the units of the range and as a share of it."""
        share = epsilon / self.span
        if self.is_unit:
            return f"{epsilon:.4g} ({255 * share:.3g}/255)"
        return f"{epsilon:.4g} ({share:.4f} of the range)"


def checked_images(owner: str, images: Any, value_range: ValueRange) -> np.ndarray:
    """Returns images as an array, or raises if attacks cannot use them.

    Args:
        owner: Name of the class or function that takes the images.
        images: Array-like of shape `(batch, rows, cols, channels)` or
            `(batch, rows, cols)`, with finite values in `value_range`.
        value_range: Range of the pixels.

    Returns:
        The same images with a channel axis, in their own dtype, not copied.

    Raises:
        ValueError: If their shape, dtype or values are invalid.

    Example:

    >>> unit = keras_advdef.core.value_range.ValueRange()
    >>> images = np.zeros((2, 8, 8, 1))
    >>> keras_advdef.core.value_range.checked_images("PGD", images, unit).shape
    (2, 8, 8, 1)
    """
    array = np.asarray(images)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise invalid(owner, "images", "an array of numbers", array)
    if array.ndim not in (_IMAGE_RANK - 1, _IMAGE_RANK) or 0 in array.shape:
        rule = "a non-empty array of shape (batch, rows, cols) or (batch, rows, cols, "
        rule += "channels)"
        advice = _OTHER_RANKS.get(array.ndim, "")
        raise invalid(owner, "images", rule, array, advice=advice)
    check_values(owner, array, value_range)
    return add_channels(array)


def check_values(owner: str, images: np.ndarray, value_range: ValueRange) -> None:
    """Raises if pixels are not finite or out of range; warns if the range looks wrong.

    Args:
        owner: Name of the class or function that takes the images.
        images: Array of numbers whose first axis is the batch.
        value_range: The range the values must lie in.

    Raises:
        ValueError: If a value does not fit.

    Example:

    >>> unit = keras_advdef.core.value_range.ValueRange()
    >>> keras_advdef.core.value_range.check_values("PGD", np.zeros((2, 8, 8)), unit)
    """
    if not images.size:
        return
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        finite = np.isfinite(images.astype(np.float32, copy=False))
        rule = f"finite; image {int(np.argwhere(~finite)[0][0])} holds NaN or infinity"
        raise invalid(owner, "images", rule, images, advice="Remove or repair it.")
    slack = _TOLERANCE * value_range.span
    if low < value_range.low - slack or high > value_range.high + slack:
        rule = f"in the value range [{value_range.low:g}, {value_range.high:g}]"
        advice = "Rescale the images or pass the `value_range` they lie in."
        raise invalid(owner, "images", rule, (low, high), advice=advice)
    # A constant image tells nothing about the range.
    if value_range.high >= _WIDE_RANGE and 0.0 <= low < high <= 1.0:
        text = (
            f"`{owner}` got images between {low:.3g} and {high:.3g}: almost black in "
            f"value_range=({value_range.low:g}, {value_range.high:g}). If their pixels "
            "are scaled to [0, 1], omit `value_range`."
        )
        warnings.warn(text, stacklevel=3)


def checked_epsilon(
    owner: str,
    epsilon: Any,
    value_range: ValueRange,
    *,
    norm: str,
    low_open: bool = False,
) -> float:
    """Returns an epsilon as a float, or raises if it is out of bounds.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0. For "linf" it is at most the width of the range,
            which catches an 8 meant as 8/255.
        value_range: Range of the pixels.
        norm: "linf", "l2" or "l1".
        low_open: Whether 0 is rejected.

    Raises:
        ValueError: If it is out of bounds.

    Example:

    >>> from keras_advdef.core.value_range import checked_epsilon
    >>> from keras_advdef.core.value_range import ValueRange
    >>> checked_epsilon("PGD", 8, ValueRange(0.0, 255.0), norm="linf")
    8.0
    """
    span = value_range.span
    number = checked_number(owner, "epsilon", epsilon, low=0.0, low_open=low_open)
    if norm == "linf" and number > span:
        rule = f"at most {span:g}, the width of the value range"
        advice = f"Did you mean {number:g}/255 = {number / 255:.4f}?"
        raise invalid(owner, "epsilon", rule, epsilon, advice=advice)
    return number


def small_epsilon_error(
    owner: str, epsilon: float, value_range: ValueRange, *, otherwise: str = ""
) -> ValueError | None:
    """Returns the error for an epsilon that hardly changes an image, else `None`.

    Zero is not an error: it is meant to change nothing.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0.
        value_range: Range of the pixels.
        otherwise: Advice for users who really want so small a number.

    Example:

    >>> from keras_advdef.core.value_range import small_epsilon_error
    >>> from keras_advdef.core.value_range import ValueRange
    >>> error = small_epsilon_error("PGD", 8 / 255, ValueRange(0.0, 255.0))
    >>> str(error).split(". ")[-1]
    'Did you mean 8, in the units of the pixels?'
    """
    span = value_range.span
    if not 0.0 < epsilon < _SMALLEST_SHARE * span:
        return None
    rule = f"at least 0.1 % of the value range, {_SMALLEST_SHARE * span:g}"
    # In a range of width 1 the advice would repeat the number.
    advice = (
        f"Did you mean {epsilon * span:g}, in the units of the pixels?"
        if span > 1.0
        else "So small a change is hardly an attack."
    )
    advice = f"{advice} {otherwise}".strip()
    return invalid(owner, "epsilon", rule, epsilon, advice=advice)


def warn_small_epsilon(owner: str, epsilon: float, value_range: ValueRange) -> None:
    """Warns about an epsilon that hardly changes an image.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0.
        value_range: Range of the pixels.

    Example:

    >>> from keras_advdef.core.value_range import warn_small_epsilon
    >>> from keras_advdef.core.value_range import ValueRange
    >>> warn_small_epsilon("PGD", 8 / 255, ValueRange())
    """
    error = small_epsilon_error(owner, epsilon, value_range)
    if error is not None:
        warnings.warn(str(error), stacklevel=3)
