"""Ctrl-C and SIGTERM as exceptions, so that a command cleans up."""

import signal
import threading
import types
from typing import Any


class Terminated(BaseException):
    """Raised where a signal asks the process to end."""


class StopSignals:
    """Raises `KeyboardInterrupt` or `Terminated`, and knows which signal came.

    Libraries turn what is raised inside them into errors of their own; the signal was
    the reason all the same. To be used in a `with` statement.

    Attributes:
        came: Number of the last signal, or `None`.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Python takes signals in its main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in map(int, (signal.SIGINT, signal.SIGTERM)):
                handler = signal.getsignal(number)
                # Whoever started the process may have asked for it to be left alone.
                if handler is not None and handler != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _stop(self, number: int, frame: types.FrameType | None) -> None:
        self.came = number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated
