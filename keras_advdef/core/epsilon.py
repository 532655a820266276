"""The one check of an epsilon against the range of the pixels."""

import warnings
from typing import Any

from keras_advdef.core.arguments import checked_number
from keras_advdef.core.errors import invalid
from keras_advdef.core.value_range import ValueRange

_SMALLEST_SHARE = 0.001


def checked_epsilon(
    owner: str, epsilon: Any, value_range: ValueRange, *, norm: str
) -> float:
    """Returns an epsilon as a float, or raises if it fits no image.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0; for "linf" at most the width of the range, which
            catches an 8 meant as 8/255.
        value_range: Range of the pixels.
        norm: "linf" or another.

    Raises:
        ValueError: If it is out of its bounds.

    Example:

    >>> from keras_advdef.core.epsilon import checked_epsilon
    >>> from keras_advdef.core.value_range import ValueRange
    >>> checked_epsilon("PGD", 8, ValueRange(0.0, 255.0), norm="linf")
    8.0
    """
    span = value_range.span
    number = checked_number(owner, "epsilon", epsilon, low=0.0)
    if norm == "linf" and number > span:
        rule = f"at most {span:g}, the width of the value range"
        advice = f"Did you mean {number:g}/255 = {number / 255:.4f}?"
        raise invalid(owner, "epsilon", rule, epsilon, advice=advice)
    return number


def small_epsilon(
    owner: str, epsilon: float, value_range: ValueRange, *, otherwise: str = ""
) -> ValueError | None:
    """Returns the error of an epsilon that changes next to nothing, `None` if it does.

    Zero, which is meant to change nothing, is none.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0.
        value_range: Range of the pixels.
        otherwise: A sentence for users who mean it.

    Example:

    >>> from keras_advdef.core.epsilon import small_epsilon
    >>> from keras_advdef.core.value_range import ValueRange
    >>> error = small_epsilon("PGD", 8 / 255, ValueRange(0.0, 255.0))
    >>> str(error).split(". ")[-1]
    'Did you mean 8, in the units of the pixels?'
    """
    span = value_range.span
    if not 0.0 < epsilon < _SMALLEST_SHARE * span:
        return None
    rule = f"at least 0.1 % of the value range, {_SMALLEST_SHARE * span:g}"
    # With a range of 1 the number meant would be the number itself.
    advice = (
        f"Did you mean {epsilon * span:g}, in the units of the pixels?"
        if span > 1.0
        else "So small a change is hardly any attack."
    )
    advice = f"{advice} {otherwise}".strip()
    return invalid(owner, "epsilon", rule, epsilon, advice=advice)


def tell_small_epsilon(owner: str, epsilon: float, value_range: ValueRange) -> None:
    """Warns of an epsilon that changes next to nothing.

    Args:
        owner: Name of the class or function that takes it.
        epsilon: Number of at least 0.
        value_range: Range of the pixels.

    Example:

    >>> from keras_advdef.core.epsilon import tell_small_epsilon
    >>> from keras_advdef.core.value_range import ValueRange
    >>> tell_small_epsilon("PGD", 8 / 255, ValueRange())
    """
    error = small_epsilon(owner, epsilon, value_range)
    if error is not None:
        warnings.warn(str(error), stacklevel=3)
