"""Progress: what an evaluation tells while it runs."""

import threading
import time

from keras_advdef.core.text import duration, printable


class Progress:
    """Base of the listeners; this one is silent.

    Example:

    >>> from keras_advdef.core.progress import Progress
    >>> Progress().line("nothing is printed")
    """

    def line(self, text: str) -> None:
        """Tells a sentence.

        Args:
            text: The sentence.
        """

    def update(self, attack: str, *, left: int, seconds: float | None) -> None:
        """Tells how far an attack is.

        Args:
            attack: What the attack is called.
            left: Images that it still has to attack.
            seconds: What the whole evaluation may still take, or `None` while that is
                not known.
        """


class LineProgress(Progress):
    """Prints a line when an attack begins and a few while it runs."""

    def __init__(self) -> None:
        self._attack = ""
        self._printed = 0.0

    def line(self, text: str) -> None:
        # Unlike a method of `sys.stdout` it does not mind that there is none.
        print(printable(text), flush=True)

    def update(self, attack: str, *, left: int, seconds: float | None) -> None:
        now = time.monotonic()
        if attack == self._attack and now - self._printed < _PAUSE:
            return
        self._attack, self._printed = attack, now
        self.line(f"{attack}: {left} images left{time_left(seconds)}")


# Seconds between two lines about the same attack.
_PAUSE = 10.0


def time_left(seconds: float | None) -> str:
    """Returns the rest of a line about the time that is left.

    Args:
        seconds: About so many, or `None` for nothing known.

    Example:

    >>> from keras_advdef.core.progress import time_left
    >>> time_left(150.0)
    ', about 2 min 30 s to go'
    """
    # Whoever reads that nothing is left expects the end at once.
    return "" if seconds is None else f", about {duration(max(seconds, 1.0))} to go"


class Meter(threading.local):
    """What the attacks of this thread have cost so far.

    Attributes:
        tracing: Seconds that went into tracing functions.
        rows: Rows times the steps that they were moved on, in attacks that images may
            leave.

    Example:

    >>> from keras_advdef.core.progress import Meter
    >>> Meter().tracing
    0.0
    """

    tracing = 0.0
    rows = 0


meter = Meter()
