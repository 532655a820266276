"""What a user reads, and the exit code, when a command cannot go on."""

import os
import re
import signal
import tempfile
import threading
import traceback
import types
import warnings
from typing import Any

import tensorflow as tf
import typer
from rich.console import Console

from keras_advdef.cli import missing_extra
from keras_advdef.cli.print_line import print_line
from keras_advdef.core.errors import is_rejection
from keras_advdef.core.untrusted import reason_of

# What TensorFlow says of memory, amid the places of its graph.
_ALLOCATION = re.compile(r"OOM when allocating tensor with shape\[[\d,]*\]")
_REJECTED = 2
# EX_SOFTWARE of BSD's sysexits.h; 1 says that an accuracy is below the minimum.
_UNEXPECTED = 70
_INTERRUPTED = 130
_TERMINATED = 143


class Terminated(BaseException):
    """Raised where a signal asks the process to end, so that it cleans up."""


class ReportedFailures:
    """Turns every failure of a command into one line and an exit code.

    A warning is one line too, without the line of code that gave it.

    Use it in a `with` statement around the command. Exit codes: 2 for bad input, for
    files that cannot be read or written and for too little memory; 130 for Ctrl-C and
    143 for SIGTERM; 70 for what was not foreseen, whose traceback goes to a file that
    the line names.

    Args:
        console: Where the line goes; usually standard error.
        interrupted: What Ctrl-C and SIGTERM leave behind, as half a sentence.
    """

    def __init__(
        self, console: Console, interrupted: str = "nothing was written"
    ) -> None:
        self._console = console
        self._interrupted = interrupted
        self._before: Any = None
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._warnings.__enter__()
        warnings.showwarning = self._show
        # Python takes signals in its main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _terminate)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._warnings.__exit__(kind, error, trace)
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if error is None or isinstance(error, (typer.Exit, SystemExit)):
            return
        if missing_extra(error) is not None:
            return  # `main` says what to install
        message, code = self._outcome(error)
        self._line(message)
        raise typer.Exit(code) from error

    def _show(self, message: Warning | str, *where: Any, **options: Any) -> None:
        """Stands in for `warnings.showwarning`."""
        self._line(f"Warning: {message}")

    def _line(self, message: str) -> None:
        print_line(self._console, " ".join(message.split()))

    def _outcome(self, error: BaseException) -> tuple[str, int]:
        if isinstance(error, KeyboardInterrupt):
            return f"Interrupted; {self._interrupted}.", _INTERRUPTED
        if isinstance(error, Terminated):
            return f"Terminated; {self._interrupted}.", _TERMINATED
        if isinstance(error, OSError) or is_rejection(error):
            return str(error), _REJECTED
        if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
            advice = "Take fewer or smaller images, or a smaller --batch-size."
            said = _ALLOCATION.search(str(error))
            reason = said.group() if said else reason_of(error)
            return f"There is too little memory ({reason}). {advice}", _REJECTED
        message = f"Unexpected {type(error).__name__}: {reason_of(error)}."
        return f"{message} {_written_traceback(error)}", _UNEXPECTED


def _terminate(number: int, frame: types.FrameType | None) -> None:
    raise Terminated


def _written_traceback(error: BaseException) -> str:
    """Writes the traceback to a new file and says where it lies."""
    text = "".join(traceback.format_exception(error))
    try:
        number, path = tempfile.mkstemp(prefix="keras-advdef-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as failure:
        return f"Its traceback could not be written ({reason_of(failure)})."
    return f"Please report it with its traceback, which lies in {path}."
