"""What the argument is called that names a file or folder of images."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from keras_advdef.core.errors import invalid

_NAME = ContextVar("name", default=("keras-advdef", "--data"))


@contextlib.contextmanager
def named_argument(owner: str, argument: str) -> Iterator[None]:
    """Names the argument in the errors of the body; else it is the command's `--data`.

    Args:
        owner: Name of the function that takes the files.
        argument: Name of its argument.

    Yields:
        Nothing; read files in the body.

    Example:

    >>> from keras_advdef.core.data.argument_name import named_argument, refused
    >>> with named_argument("harden", "train_data"):
    ...     str(refused("a folder", "x"))
    "`harden` expects `train_data` to be a folder. Received: train_data='x'."
    """
    token = _NAME.set((owner, argument))
    try:
        yield
    finally:
        _NAME.reset(token)


def refused(rule: str, value: object, advice: str = "") -> ValueError:
    """Returns the error for files that cannot be used.

    Args:
        rule: What the argument has to be.
        value: What it is.
        advice: What to do.
    """
    owner, argument = _NAME.get()
    return invalid(owner, argument, rule, value, advice=advice)


def part_owner(spec: str) -> str:
    """Returns how errors name the arrays of a file or folder.

    Args:
        spec: Its path, or the name of a data set.
    """
    return f"{_NAME.get()[1]} {spec}"
