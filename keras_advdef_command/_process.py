"""What the process of the command needs before anything else runs in it."""

import contextlib
import io
import os
import signal
import sys
import types

_MESSAGES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n"}


def set_up_process() -> None:
    """Opens closed streams, and decides how signals and defects end the process."""
    replace_closed_streams()
    sys.excepthook = exit_on_bug
    exit_on_signals()


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


def exit_on_signals() -> None:
    """Ends the process with one line on Ctrl-C and SIGTERM.

    A command that has something to clean up handles them itself.
    """
    # While the package is loaded, number 2 leads into a file.
    terminal = os.dup(2)

    def end(number: int, frame: types.FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(terminal, _MESSAGES[signal.Signals(number)])
        os._exit(128 + number)

    for number in _MESSAGES:
        # The parent process may have chosen to ignore it, as `nohup` does.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


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
