"""One message shape for every rejected argument."""

import re
from typing import Any

import numpy as np

from keras_advdef.core.keras_private import left_as_it_is

_LONGEST_VALUE = 120
# Keras puts its own words around what is raised inside a layer.
_REJECTION = re.compile(r"`[^`]+` expects .+ Received: ", re.DOTALL)


def describe(value: Any) -> str:
    """Returns a short text for a value in an error message.

    Arrays and tensors are shown by shape and dtype, everything else by `repr`, cut
    to one readable line.

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
    except ValueError:  # an integer of thousands of digits, which Python does not write
        text = f"{type(value).__name__} of too many digits"
    return shortened(text, _LONGEST_VALUE)


def shortened(text: str, most: int) -> str:
    """Returns a text, or its beginning and three dots.

    Args:
        text: Any text.
        most: Its characters at most.

    Example:

    >>> keras_advdef.core.errors.shortened("a long name", 9)
    'a long...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    r"""Returns a text in one line that commands no terminal.

    Names of files and what lies in them may hold anything: line breaks, sequences that
    clear a screen, letters that turn the direction of what follows.

    Args:
        text: Any text.

    Returns:
        The text, with an escape for each character that is not to be printed.

    Example:

    >>> print(keras_advdef.core.errors.printable("a\x1b[2J b"))
    a\x1b[2J b
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _message(owner: str, argument: str, rule: str, value: Any, advice: str) -> str:
    received = f"{argument}={describe(value)}"
    text = f"`{owner}` expects `{argument}` to be {rule}. Received: {received}."
    return printable(f"{text} {advice}" if advice else text)


def invalid(
    owner: str, argument: str, rule: str, value: Any, *, advice: str = ""
) -> ValueError:
    """Returns the `ValueError` for an argument whose value or shape is rejected.

    Args:
        owner: Name of the class or function that rejects.
        argument: Name of the argument as the user wrote it.
        rule: What is accepted, so that "expects `argument` to be ..." reads well.
        value: What was received.
        advice: A full sentence that says what to do, or empty.

    Returns:
        The exception; the caller raises it.

    Example:

    >>> str(keras_advdef.core.errors.invalid("PGD", "steps", "at least 1", 0))
    '`PGD` expects `steps` to be at least 1. Received: steps=0.'
    """
    return left_as_it_is(ValueError(_message(owner, argument, rule, value, advice)))


def wrong_type(
    owner: str, argument: str, rule: str, value: Any, *, advice: str = ""
) -> TypeError:
    """Returns the `TypeError` for an argument of a type that is not accepted.

    Args:
        owner: Name of the class or function that rejects.
        argument: Name of the argument as the user wrote it.
        rule: What is accepted, so that "expects `argument` to be ..." reads well.
        value: What was received.
        advice: A full sentence that says what to do, or empty.

    Returns:
        The exception; the caller raises it.

    Example:

    >>> error = keras_advdef.core.errors.wrong_type("PGD", "loss", "a string", 3)
    >>> str(error)
    '`PGD` expects `loss` to be a string. Received: loss=3.'
    """
    return left_as_it_is(TypeError(_message(owner, argument, rule, value, advice)))


def is_rejection(error: BaseException) -> bool:
    """Returns whether an error was raised to refuse an argument.

    Args:
        error: Any error.

    Returns:
        Whether it is a `ValueError` or `TypeError` with a message of this package.

    Example:

    >>> from keras_advdef.core.errors import invalid, is_rejection
    >>> is_rejection(invalid("PGD", "steps", "at least 1", 0))
    True
    >>> is_rejection(ValueError("cannot reshape array of size 3 into shape (2,)"))
    False
    """
    is_kind = isinstance(error, (ValueError, TypeError))
    return is_kind and _REJECTION.search(str(error)) is not None
