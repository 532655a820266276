"""Progress of long runs: what attacks have cost, and what evaluations print."""

import threading
import time

from keras_advdef.core.text import duration, printable

# Seconds between two lines about the same attack.
_PAUSE = 10.0


class Progress:
    """Base of the listeners of an evaluation; this one is silent.

    Example:

    >>> from keras_advdef.core.progress import Progress
    >>> Progress().line("nothing is printed")
    """

    def line(self, text: str) -> None:
        """Reports a sentence.

        Args:
            text: The sentence.
        """

    def update(self, attack: str, *, left: int, seconds: float | None) -> None:
        """Reports how far an attack is.

        Args:
            attack: Label of the attack.
            left: Number of images left to attack.
            seconds: Estimated time left for the whole evaluation; `None` while
                unknown.
        """


class LineProgress(Progress):
    """Prints a line when an attack begins, and every ten seconds while it runs."""

    def __init__(self) -> None:
        self._attack = ""
        self._printed = 0.0

    def line(self, text: str) -> None:
        # Unlike `sys.stdout.write`, `print` works if there is no `sys.stdout`.
        print(printable(text), flush=True)

    def update(self, attack: str, *, left: int, seconds: float | None) -> None:
        now = time.monotonic()
        if attack == self._attack and now - self._printed < _PAUSE:
            return
        self._attack, self._printed = attack, now
        self.line(f"{attack}: {left} images left{time_left(seconds)}")


def progress_of(verbose: str | int | Progress) -> Progress:
    """Returns the listener for a user's `verbose`.

    Args:
        verbose: 1 or "auto" for printed lines, anything else that is no listener for
            silence.

    Example:

    >>> from keras_advdef.core.progress import progress_of
    >>> progress_of(0).line("nothing is printed")
    """
    if isinstance(verbose, Progress):
        return verbose
    return LineProgress() if verbose in ("auto", 1) else Progress()


def time_left(seconds: float | None) -> str:
    """Returns the end of a progress line: the time left.

    Args:
        seconds: Estimated time left, or `None` while unknown.

    Example:

    >>> from keras_advdef.core.progress import time_left
    >>> time_left(150.0)
    ', about 2 min 30 s to go'
    """
    # Never less than a second: the run has not ended yet.
    return "" if seconds is None else f", about {duration(max(seconds, 1.0))} to go"


class Meter(threading.local):
    """What the attacks of this thread have cost so far.

    Attributes:
        traces: Functions traced.
        tracing: Seconds spent on tracing them.
        rows: Sum over attack steps of the rows they moved, in attacks that images leave
            early.

    Example:

    >>> from keras_advdef.core.progress import Meter
    >>> Meter().tracing
    0.0
    """

    traces = 0
    tracing = 0.0
    rows = 0


meter = Meter()
