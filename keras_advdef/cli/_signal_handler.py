"""Ctrl-C and SIGTERM as exceptions, so that a command cleans up."""

import _thread
import signal
import sys
import threading
import types
from collections.abc import Callable

# Seconds until the exception is raised again if it had no effect.
_RETRY_SECONDS = 1.0
# What Python gives as the handler of a signal.
_Handler = Callable[[int, types.FrameType | None], object] | int | None


class Terminated(BaseException):
    """Raised when SIGTERM asks the process to end."""


class SignalHandler:
    """Raises `KeyboardInterrupt` or `Terminated`, and remembers the signal.

    Libraries may turn an exception that is raised inside them into another one, or drop
    it. `received` still names the cause, and a dropped exception is raised again.
    Further signals are ignored while the program cleans up. Use it in a `with`
    statement.

    Attributes:
        received: Number of the last signal, or `None`.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raised: BaseException | None = None
        self._timer: threading.Timer | None = None
        self._is_closed = False
        self._before: dict[int, _Handler] = {}

    def __enter__(self) -> "SignalHandler":
        # Python handles signals in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in map(int, (signal.SIGINT, signal.SIGTERM)):
                handler = signal.getsignal(number)
                # The parent process may have chosen to ignore it, as `nohup` does.
                if handler is not None and handler != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        while self._before:
            signal.signal(*self._before.popitem())

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self._is_closed:
            return
        self.received = number
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_RETRY_SECONDS, _thread.interrupt_main, [number])
        self._timer.daemon = True
        self._timer.start()
        if not self._is_cleaning_up():
            is_interrupt = number == signal.SIGINT
            self._raised = KeyboardInterrupt() if is_interrupt else Terminated()
            raise self._raised

    def _is_cleaning_up(self) -> bool:
        """Returns whether the program is handling the exception that was raised."""
        handled = sys.exc_info()[1]
        while handled is not None and handled is not self._raised:
            handled = handled.__context__
        return handled is not None
