"""The message and the exit code of a command that fails."""

import contextlib
import os
import re
import signal
import tempfile
import traceback
import types
import warnings
from pathlib import Path

import tensorflow as tf
import typer
from rich.console import Console

from keras_advdef.cli._console import OutputClosed
from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._signal_handler import SignalHandler
from keras_advdef.core.errors import is_rejection
from keras_advdef.core.untrusted import error_reason
from keras_advdef_command.extras import missing_extra

# The part of TensorFlow's message on memory that helps a user.
_ALLOCATION = re.compile(r"OOM when allocating tensor with shape\[[\d,]*\]")
_REJECTED = 2
# EX_SOFTWARE of BSD's sysexits.h; 1 means that an accuracy is below the minimum.
_UNEXPECTED = 70
# Shells report 128 + n for a process that signal n ended.
_INTERRUPTED, _NOT_READ, _TERMINATED = (
    128 + number for number in (signal.SIGINT, 13, signal.SIGTERM)
)


class ExitOnError:
    """Turns every failure of a command into one line and an exit code.

    Use it in a `with` statement around the command. Exit codes: 2 for bad input, for
    files that cannot be read or written, and for too little memory; 130 for Ctrl-C;
    143 for SIGTERM; 141, without a line, if the output was closed; 70 for an unexpected
    error, whose traceback goes to a file that the line names. A warning becomes one
    line too, without the code that caused it.

    Args:
        console: Where the line goes; usually standard error.
        interrupted: What Ctrl-C and SIGTERM leave behind, as half a sentence.
    """

    def __init__(
        self, console: Console, interrupted: str = "nothing was written"
    ) -> None:
        self._console = console
        self._interrupted = interrupted
        self._signals = SignalHandler()
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._warnings.__enter__()
        warnings.showwarning = self._show_warning
        self._signals.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._signals.__exit__(kind, error, trace)
        self._warnings.__exit__(kind, error, trace)
        if error is None or isinstance(error, (typer.Exit, SystemExit)):
            return
        if missing_extra(error) is not None:
            return  # `main` tells the user what to install
        message, code = self._message_and_code(error)
        if message:
            self._print(message)
        raise typer.Exit(code) from error

    def _show_warning(
        self, message: Warning | str, *where: object, **options: object
    ) -> None:
        """Replaces `warnings.showwarning`."""
        self._print(f"Warning: {message}")

    def _print(self, message: str) -> None:
        # If nobody reads it, there is still the exit code.
        with contextlib.suppress(OSError, OutputClosed):
            print_line(self._console, " ".join(message.split()))

    def _message_and_code(self, error: BaseException) -> tuple[str, int]:
        received = self._signals.received
        if received == signal.SIGTERM:
            return f"Terminated; {self._interrupted}.", _TERMINATED
        if received == signal.SIGINT or isinstance(error, KeyboardInterrupt):
            return f"Interrupted; {self._interrupted}.", _INTERRUPTED
        if isinstance(error, OutputClosed):
            return "", _NOT_READ
        if isinstance(error, OSError) or is_rejection(error):
            return str(error), _REJECTED
        if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
            advice = "Use fewer or smaller images, or a smaller --batch-size."
            said = _ALLOCATION.search(str(error))
            reason = said.group() if said else error_reason(error)
            return f"Not enough memory ({reason}). {advice}", _REJECTED
        message = f"Unexpected {type(error).__name__}: {error_reason(error)}."
        return f"{message} {_save_traceback(error)}", _UNEXPECTED


def _save_traceback(error: BaseException) -> str:
    """Writes the traceback to a new file and returns a sentence that names it."""
    text = "".join(traceback.format_exception(error))
    path = None
    try:
        number, path = tempfile.mkstemp(prefix="keras-advdef-", suffix=".txt")
        with os.fdopen(
            number, "w", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError as failure:
        if path is not None:
            Path(path).unlink(missing_ok=True)
        last = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"It was raised in {last.filename}, line {last.lineno}; its traceback "
            f"could not be written ({error_reason(failure)})."
        )
    return f"Please report it with its traceback, saved in {path}."
