"""Checks the files and folders that a command is given, before any is read."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_advdef_command.refusal import RefusedArgument, refusal

# Data sets that come with scikit-learn, and that Keras downloads.
BUNDLED = ("digits",)
DOWNLOADED = ("mnist", "fashion_mnist", "cifar10")
_SAVED_MODEL = "saved_model.pb"


def check_data(spec: str) -> None:
    """Raises unless `--data` names a data set, or a file or folder that exists.

    Args:
        spec: As typed.

    Raises:
        RefusedArgument: If it does not.

    Example:

    >>> from keras_advdef_command.paths import check_data
    >>> check_data("digits")
    """
    if spec not in (*BUNDLED, *DOWNLOADED):
        is_data_folder(spec)


def is_data_folder(spec: str) -> bool:
    """Returns whether `--data` names a folder, not a file.

    Args:
        spec: As typed.

    Raises:
        RefusedArgument: If nothing has that path.
    """

    def refuse(advice: str) -> RefusedArgument:
        names = ", ".join((*BUNDLED, *DOWNLOADED))
        rule = f"one of {names}, or an existing .npz file or folder of images"
        return refusal("--data", rule, spec, advice=advice)

    path = Path(spec)
    with _opening(refuse):
        is_there, is_folder = path.exists(), path.is_dir()
    if not spec or not is_there:
        raise refuse("Check the path.")
    return is_folder


def check_model(argument: str, spec: str) -> None:
    """Raises unless a path is that of a file or of a SavedModel.

    Args:
        argument: Name of the argument.
        spec: As typed.

    Raises:
        RefusedArgument: If it is not.
    """

    def refuse(advice: str) -> RefusedArgument:
        rule = "a .keras or .h5 file, or the folder of a SavedModel"
        return refusal(argument, rule, spec, advice=advice)

    path = Path(spec)
    with _opening(refuse):
        is_there, is_folder = path.exists(), path.is_dir()
        is_served = is_folder and (path / _SAVED_MODEL).exists()
    if not spec or not is_there:
        raise refuse("There is no such file or folder; check the path.")
    if is_folder and not is_served:
        raise refuse(f"This folder lacks {_SAVED_MODEL}.")


def check_output(path: Path) -> None:
    """Raises if a folder cannot be written to, or cannot be made.

    Nothing is written: a later error must leave nothing behind.

    Args:
        path: As typed.

    Raises:
        RefusedArgument: If it cannot.
    """

    def refuse(advice: str) -> RefusedArgument:
        rule = "a folder that can be written to"
        advice += " Choose another folder."
        return refusal("--output", rule, str(path), advice=advice)

    with _opening(refuse):
        existing = (each for each in (path, *path.absolute().parents) if each.exists())
        nearest = next(existing)
        is_folder = nearest.is_dir()
    if not is_folder:
        raise refuse(f"{str(nearest)!r} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise refuse(f"{str(nearest)!r} cannot be written to.")


@contextlib.contextmanager
def _opening(refuse: Callable[[str], RefusedArgument]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refuse(f"It cannot be opened: {reason}.") from error
