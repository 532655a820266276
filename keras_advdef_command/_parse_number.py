"""Reads numbers as users type them: 0.03 or 8/255."""

import math

from keras_advdef_command.refusal import refusal


def parse_number(flag: str, text: str, *, rule: str) -> float:
    """Returns the value of a flag as a number.

    Args:
        flag: Name of the flag.
        text: As typed: a decimal number or a fraction.
        rule: What is accepted, for the message.

    Raises:
        RefusedArgument: If it is not a finite number, or too small for a float.

    Example:

    >>> from keras_advdef_command._parse_number import parse_number
    >>> round(parse_number("--epsilon", "8/255", rule="a number"), 4)
    0.0314
    """
    try:
        # Not as an exact fraction: 1e999999999 has a billion digits.
        parts = [_decimal(part) for part in text.split("/", maxsplit=1)]
        number = parts[0] if len(parts) == 1 else parts[0] / parts[1]
    except (ValueError, ZeroDivisionError):
        raise refusal(flag, rule, text) from None
    vanished = number == 0.0 and parts[0] != 0.0
    if vanished or not all(map(math.isfinite, (*parts, number))):
        raise refusal(flag, rule, text)
    return number


def _decimal(text: str) -> float:
    """Returns a number as a float; raises if it would be rounded to zero."""
    number = float(text)
    if number == 0.0 and float(text.lower().partition("e")[0]) != 0.0:
        raise ValueError("too small for a float")
    return number
