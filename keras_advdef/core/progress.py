"""Progress: what an evaluation tells while it runs."""

import time

from keras_advdef.core.errors import printable


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


def duration(seconds: float) -> str:
    """Returns a time as people say it.

    Args:
        seconds: Any number of at least 0.

    Example:

    >>> from keras_advdef.core.progress import duration
    >>> duration(59.6), duration(3725)
    ('1 min', '1 h 2 min')
    """
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{whole} s"
