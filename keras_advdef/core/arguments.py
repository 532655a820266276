"""Checks of plain constructor arguments, so that every class words them alike."""

import math
import numbers
from collections.abc import Collection
from typing import Any

from keras_advdef.core.errors import invalid, wrong_type


def checked_integer(
    owner: str, argument: str, value: Any, *, low: int, high: int | None = None
) -> int:
    """Returns `value` as `int`, or raises if it is no integer in `[low, high]`.

    Args:
        owner: Name of the class that checks.
        argument: Name of the argument.
        value: What the user passed. Booleans are rejected.
        low: Smallest accepted integer.
        high: Largest accepted integer; `None` for no limit.

    Returns:
        A Python `int`.

    Raises:
        ValueError: If the value is outside the bounds or no integer.

    Example:

    >>> keras_advdef.core.arguments.checked_integer("PGD", "steps", 40, low=1)
    40
    """
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integral or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"in [{low}, {high}]"
        raise invalid(owner, argument, f"an integer {bounds}", value)
    return int(value)


def checked_number(
    owner: str,
    argument: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
) -> float:
    """Returns `value` as `float`, or raises if it is no finite number in bounds.

    Args:
        owner: Name of the class that checks.
        argument: Name of the argument.
        value: What the user passed. Booleans are rejected.
        low: Smallest accepted number.
        high: Largest accepted number.
        low_open: Whether `low` itself is rejected.

    Returns:
        A Python `float`.

    Raises:
        ValueError: If the value is no finite number in the bounds.

    Example:

    >>> keras_advdef.core.arguments.checked_number("PGD", "epsilon", 1, low=0)
    1.0
    """
    number = _as_float(value)
    fits = math.isfinite(number) and low <= number <= high
    if not fits or (low_open and number == low):
        rule = "a finite number"
        if low > -math.inf:
            rule += f" above {low:g}" if low_open else f" of at least {low:g}"
        if high < math.inf:
            rule += f" and at most {high:g}"
        raise invalid(owner, argument, rule, value)
    return number


def _as_float(value: Any) -> float:
    """Returns a number as float: NaN for what is none, infinity beyond all floats."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def checked_choice(
    owner: str, argument: str, value: Any, choices: Collection[Any]
) -> Any:
    """Returns `value`, or raises if it is not one of `choices`.

    Args:
        owner: Name of the class that checks.
        argument: Name of the argument.
        value: What the user passed.
        choices: The accepted values.

    Returns:
        The value.

    Raises:
        ValueError: If the value is not among the choices.

    Example:

    >>> keras_advdef.core.arguments.checked_choice("PGD", "norm", "l2", ("l1", "l2"))
    'l2'
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise invalid(owner, argument, f"one of {listed}", value)
    return value


def checked_instance(owner: str, argument: str, value: Any, kind: type) -> Any:
    """Returns `value`, or raises if it is no instance of `kind`.

    Args:
        owner: Name of the class that checks.
        argument: Name of the argument.
        value: What the user passed.
        kind: The accepted class.

    Returns:
        The value.

    Raises:
        TypeError: If the value is of another type.

    Example:

    >>> keras_advdef.core.arguments.checked_instance("PGD", "loss", "margin", str)
    'margin'
    """
    if not isinstance(value, kind):
        name = kind.__qualname__
        article = "an" if name[0] in "AEIOU" else "a"
        raise wrong_type(owner, argument, f"{article} `{name}`", value)
    return value
