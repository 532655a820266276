"""What the command `keras-advdef` does before it loads the package.

That takes seconds, in which Ctrl-C and SIGTERM end it with one line.
"""

import contextlib
import io
import os
import signal
import sys
import types

_MESSAGES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n"}


def exit_on_signal(number: int, frame: types.FrameType | None) -> None:
    """Ends the process at once, as long as there is nothing to clean up.

    Args:
        number: Of the signal that asks for it.
        frame: Where the program is.
    """
    with contextlib.suppress(OSError):
        os.write(2, _MESSAGES[signal.Signals(number)])
    os._exit(128 + number)


def replace_closed_streams() -> None:
    """Gives the process the standard streams that its caller has closed.

    The first files to be opened would take their numbers otherwise, and what TensorFlow
    logs would be written into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - till the end
            setattr(sys, name, file)
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal may not know the letters of a name.
            stream.reconfigure(errors="backslashreplace")


def exit_on_bug(
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType | None,
) -> None:
    """Ends the process after an error of ours; Python's 1 says something else.

    Args:
        kind: Class of the error.
        error: What nothing has caught.
        trace: Where it was raised.
    """
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(70)


def main() -> None:
    """Runs the command line."""
    replace_closed_streams()
    sys.excepthook = exit_on_bug
    for number in _MESSAGES:
        # Whoever started it may have asked to be left alone, as `nohup` does.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, exit_on_signal)
    try:
        from keras_advdef.cli import main as run
    except ImportError as error:
        sys.stderr.write(f"keras-advdef cannot be loaded: {error}\n")
        sys.exit(2)
    run()
