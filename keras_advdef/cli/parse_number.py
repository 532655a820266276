"""Reads numbers as users type them: 0.03 or 8/255."""

import fractions

from keras_advdef.core.errors import invalid


def parse_number(flag: str, text: str, *, rule: str) -> float:
    """Returns the number that a flag holds.

    Args:
        flag: Name of the flag.
        text: As typed: a decimal number or a fraction.
        rule: What is accepted, for the message.

    Raises:
        ValueError: If it is no finite number.

    Example:

    >>> from keras_advdef.cli.parse_number import parse_number
    >>> round(parse_number("--epsilon", "8/255", rule="a number"), 4)
    0.0314
    """
    try:
        # `Fraction` reads 8/255 and 0.0314 alike, and neither "nan" nor "inf".
        return float(fractions.Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise invalid("keras-advdef", flag, rule, text) from None
