"""What the user asked of `keras-advdef evaluate`."""

import dataclasses
from pathlib import Path

from keras_advdef.cli._parse_number import parse_number
from keras_advdef.core.errors import invalid


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """The flags of `keras-advdef evaluate`, read.

    Attributes:
        model: Path of a `.keras` file or a SavedModel.
        data: Name of a data set, or path of a `.npz` file or a folder.
        epsilon: Radius of the ball, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        value_range: Range of the pixels that the model takes.
        budget: "quick", "standard" or "full".
        output: Folder of the report.
        minimum: Smallest accuracy under all attacks that counts as success.
        reference: Path of the undefended model, or `None`.
        surrogate: Path of a model to transfer images from, or `None`.
        batch_size: Images per compiled call.
        precision: "float32" or "bfloat16".
        seed: Seed of every random draw.
        allow_small_epsilon: Whether an epsilon under 0.1 % of the range is meant.
    """

    model: str
    data: str
    epsilon: float
    norm: str
    value_range: tuple[float, float]
    budget: str
    output: Path
    minimum: float | None
    reference: str | None
    surrogate: str | None
    batch_size: int
    precision: str
    seed: int
    allow_small_epsilon: bool


def parse_epsilon(text: str) -> float:
    """Returns the epsilon as typed.

    Args:
        text: A number or a fraction, such as "8/255".

    Raises:
        ValueError: If it is no number.
    """
    return parse_number("--epsilon", text, rule="a number above 0, such as 8/255")


def parse_value_range(text: str) -> tuple[float, float]:
    """Returns the range as typed.

    Args:
        text: Two numbers with a comma between, such as "0,255".

    Raises:
        ValueError: If it is anything else.

    Example:

    >>> from keras_advdef.cli._evaluate_settings import parse_value_range
    >>> parse_value_range("-1,1")
    (-1.0, 1.0)
    """
    rule = "two numbers low,high, such as 0,255"
    low, comma, high = text.partition(",")
    if not comma:
        raise invalid("keras-advdef", "--value-range", rule, text)
    numbers = [parse_number("--value-range", each, rule=rule) for each in (low, high)]
    return numbers[0], numbers[1]


def parse_minimum(text: str | None) -> float | None:
    """Returns the smallest accuracy as typed, or `None`.

    Args:
        text: A number in `[0, 1]`, or `None`.

    Raises:
        ValueError: If it is anything else.
    """
    if text is None:
        return None
    flag, rule = "--minimum-robust-accuracy", "a share in [0, 1], such as 0.4"
    number = parse_number(flag, text, rule=rule)
    if not 0.0 <= number <= 1.0:
        raise invalid("keras-advdef", flag, rule, text)
    return number
