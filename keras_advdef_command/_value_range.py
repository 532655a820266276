"""Reads a pair of numbers as users type it: 0,255."""

from keras_advdef_command._parse_number import parse_number
from keras_advdef_command.refusal import refusal


def parse_value_range(text: str) -> tuple[float, float]:
    """Returns the lowest and the highest pixel of `--value-range`.

    Args:
        text: As typed.

    Raises:
        RefusedArgument: If these are not two numbers, the smaller one first.

    Example:

    >>> from keras_advdef_command._value_range import parse_value_range
    >>> parse_value_range("0,255")
    (0.0, 255.0)
    """
    flag, rule = "--value-range", "two numbers low,high, such as 0,255"
    low, _, high = text.partition(",")
    numbers = [parse_number(flag, each, rule=rule) for each in (low, high)]
    if numbers[0] >= numbers[1]:
        raise refusal(flag, rule, text, advice="The first must be smaller.")
    return numbers[0], numbers[1]
