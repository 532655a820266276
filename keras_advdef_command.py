"""The entry point of the command `keras-advdef`.

Loading the package takes seconds. Until then, Ctrl-C and SIGTERM end the process with
one line.
"""

import contextlib
import io
import os
import signal
import sys
import types

_MESSAGES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n"}


def exit_on_signal(number: int, frame: types.FrameType | None) -> None:
    """Ends the process at once, since there is nothing to clean up yet.

    Args:
        number: Number of the signal.
        frame: Current stack frame, which is not used.
    """
    with contextlib.suppress(OSError):
        os.write(2, _MESSAGES[signal.Signals(number)])
    os._exit(128 + number)


def replace_closed_streams() -> None:
    """Opens the null device for each standard stream that the caller has closed.

    Otherwise the first files that are opened would get their numbers, and TensorFlow's
    log would be written into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - till the end
            setattr(sys, name, file)
        elif isinstance(stream, io.TextIOWrapper):
            # The encoding of the terminal may lack letters of a file name.
            stream.reconfigure(errors="backslashreplace")


def exit_on_bug(
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType | None,
) -> None:
    """Prints an unexpected error and exits with 70; Python's 1 means a low accuracy.

    Args:
        kind: Class of the error.
        error: The uncaught error.
        trace: Its traceback.
    """
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(70)


def main() -> None:
    """Runs the command line."""
    replace_closed_streams()
    sys.excepthook = exit_on_bug
    for number in _MESSAGES:
        # The parent process may have chosen to ignore it, as `nohup` does.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, exit_on_signal)
    try:
        from keras_advdef.cli import main as run
    except ImportError as error:
        sys.stderr.write(f"keras-advdef cannot be loaded: {error}\n")
        sys.exit(2)
    run()
