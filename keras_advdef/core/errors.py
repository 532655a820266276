"""Rejected arguments: one message format, and the checks that use it."""

import math
import numbers
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from keras_advdef.core.keras_private import without_call_info
from keras_advdef.core.text import printable, shortened

_LONGEST_VALUE = 120
# Keras wraps errors raised inside a layer in its own text.
_REJECTION = re.compile(r"`[^`]+` expects .+ Received: ", re.DOTALL)


def describe(value: object) -> str:
    """Returns a value as one short line for an error message.

    Arrays and tensors appear as shape and dtype, other values as their `repr`, cut if
    it is long.

    Args:
        value: Any object.

    Returns:
        A string without line breaks.

    Example:

    >>> keras_advdef.core.errors.describe(np.zeros((2, 3)))
    'array of shape (2, 3), dtype float64'
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array of shape {value.shape}, dtype {value.dtype}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not isinstance(value, np.generic):
        name = getattr(dtype, "name", dtype)
        known = getattr(shape, "rank", 0) is not None
        size = f"shape {tuple(shape)}" if known else "unknown rank"
        return f"tensor of {size}, dtype {name}"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not print integers of thousands of digits.
        text = f"{type(value).__name__} of too many digits"
    return shortened(text, _LONGEST_VALUE)


def _message(owner: str, argument: str, rule: str, value: object, advice: str) -> str:
    received = f"{argument}={describe(value)}"
    text = f"`{owner}` expects `{argument}` to be {rule}. Received: {received}."
    return printable(f"{text} {advice}" if advice else text)


def invalid(
    owner: str, argument: str, rule: str, value: object, *, advice: str = ""
) -> ValueError:
    """Returns the `ValueError` for an argument with an invalid value or shape.

    Args:
        owner: Name of the class or function that rejects the argument.
        argument: Name of the argument as the user wrote it.
        rule: What is accepted, to complete "expects `argument` to be ...".
        value: The received value.
        advice: A sentence that says what to do, or empty.

    Returns:
        The exception, for the caller to raise.

    Example:

    >>> str(keras_advdef.core.errors.invalid("PGD", "steps", "at least 1", 0))
    '`PGD` expects `steps` to be at least 1. Received: steps=0.'
    """
    return without_call_info(ValueError(_message(owner, argument, rule, value, advice)))


def wrong_type(
    owner: str, argument: str, rule: str, value: object, *, advice: str = ""
) -> TypeError:
    """Returns the `TypeError` for an argument of an invalid type.

    Args:
        owner: Name of the class or function that rejects the argument.
        argument: Name of the argument as the user wrote it.
        rule: What is accepted, to complete "expects `argument` to be ...".
        value: The received value.
        advice: A sentence that says what to do, or empty.

    Returns:
        The exception, for the caller to raise.

    Example:

    >>> error = keras_advdef.core.errors.wrong_type("PGD", "loss", "a string", 3)
    >>> str(error)
    '`PGD` expects `loss` to be a string. Received: loss=3.'
    """
    return without_call_info(TypeError(_message(owner, argument, rule, value, advice)))


def is_rejection(error: BaseException) -> bool:
    """Returns whether an error is a rejected argument of this package.

    Args:
        error: Any error.

    Returns:
        True for a `ValueError` or `TypeError` with a message of the format above.

    Example:

    >>> from keras_advdef.core.errors import invalid, is_rejection
    >>> is_rejection(invalid("PGD", "steps", "at least 1", 0))
    True
    >>> is_rejection(ValueError("cannot reshape array of size 3 into shape (2,)"))
    False
    """
    is_kind = isinstance(error, (ValueError, TypeError))
    return is_kind and _REJECTION.search(str(error)) is not None


def checked_integer(
    owner: str, argument: str, value: Any, *, low: int, high: int | None = None
) -> int:
    """Returns `value` as `int`, or raises if it is not an integer in `[low, high]`.

    Args:
        owner: Name of the class or function that checks.
        argument: Name of the argument.
        value: What the user passed. Booleans are rejected.
        low: Smallest accepted integer.
        high: Largest accepted integer; `None` for no limit.

    Returns:
        A Python `int`.

    Raises:
        ValueError: If the value is out of bounds or not an integer.

    Example:

    >>> keras_advdef.core.errors.checked_integer("PGD", "steps", 40, low=1)
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
    """Returns `value` as `float`, or raises if it is not a finite number in bounds.

    Args:
        owner: Name of the class or function that checks.
        argument: Name of the argument.
        value: What the user passed. Booleans are rejected.
        low: Smallest accepted number.
        high: Largest accepted number.
        low_open: Whether `low` itself is rejected.

    Returns:
        A Python `float`.

    Raises:
        ValueError: If the value is not a finite number in bounds.

    Example:

    >>> keras_advdef.core.errors.checked_number("PGD", "epsilon", 1, low=0)
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


def _as_float(value: object) -> float:
    """Returns a float: NaN for anything but a number, infinity for overflow."""
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
        owner: Name of the class or function that checks.
        argument: Name of the argument.
        value: What the user passed.
        choices: The accepted values.

    Returns:
        The value.

    Raises:
        ValueError: If the value is not among the choices.

    Example:

    >>> keras_advdef.core.errors.checked_choice("PGD", "norm", "l2", ("l1", "l2"))
    'l2'
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise invalid(owner, argument, f"one of {listed}", value)
    return value


def checked_instance(owner: str, argument: str, value: Any, kind: type) -> Any:
    """Returns `value`, or raises if it is not an instance of `kind`.

    Args:
        owner: Name of the class or function that checks.
        argument: Name of the argument.
        value: What the user passed.
        kind: The accepted class.

    Returns:
        The value.

    Raises:
        TypeError: If the value is of another type.

    Example:

    >>> keras_advdef.core.errors.checked_instance("PGD", "loss", "margin", str)
    'margin'
    """
    if not isinstance(value, kind):
        name = kind.__qualname__
        article = "an" if name[0] in "AEIOU" else "a"
        raise wrong_type(owner, argument, f"{article} `{name}`", value)
    return value
