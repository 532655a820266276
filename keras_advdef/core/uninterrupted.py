"""Puts off the signals that ask a process to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets the body end before Ctrl-C or SIGTERM is answered.

    For what takes a moment and must not be done by half. In other threads than the
    main one Python never interrupts anything.

    Yields:
        Nothing.

    Example:

    >>> import signal
    >>> from keras_advdef.core.uninterrupted import uninterrupted
    >>> try:
    ...     with uninterrupted():
    ...         signal.raise_signal(signal.SIGINT)
    ...         print("done")
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    done
    interrupted
    """
    before: dict[int, Any] = {}
    came: list[tuple[int, Any]] = []
    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda *given: came.append(given))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came[:1]:
        before[number](number, frame)
