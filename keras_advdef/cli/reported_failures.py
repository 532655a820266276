"""What a user reads, and the exit code, when a command cannot go on."""

import contextlib
import traceback
from collections.abc import Iterator

import typer
from rich.console import Console

from keras_advdef.cli.print_line import print_line


def _is_rejection(error: BaseException) -> bool:
    """Whether the package itself refused a value, rather than broke on one."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return innermost.f_globals.get("__name__", "").startswith("keras_advdef.")


@contextlib.contextmanager
def reported_failures(
    console: Console, interrupted: str = "nothing was written"
) -> Iterator[None]:
    """Turns bad input and Ctrl-C into one line and an exit code.

    A `ValueError` or `TypeError` from outside the package is a defect, not bad
    input, and keeps its traceback.

    Args:
        console: Where the line goes; usually standard error.
        interrupted: What Ctrl-C leaves behind, as half a sentence.

    Yields:
        Nothing; the command runs in the body.

    Raises:
        typer.Exit: With code 2 for bad input and for files that cannot be read or
            written, 130 for Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        message, code = f"Interrupted; {interrupted}.", 130
    except OSError as error:
        message, code = " ".join(str(error).split()), 2
    except (ValueError, TypeError) as error:
        if not _is_rejection(error):
            raise
        message, code = " ".join(str(error).split()), 2
    else:
        return
    print_line(console, message)
    raise typer.Exit(code)
