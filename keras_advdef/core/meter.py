"""Meter: counts what attacks have cost, for those who tell how long they take."""

import threading


class Meter(threading.local):
    """What the attacks of this thread have cost so far.

    Attributes:
        tracing: Seconds that went into tracing functions.
        rows: Rows times the steps that they were moved on, in attacks that images may
            leave.

    Example:

    >>> from keras_advdef.core.meter import Meter
    >>> Meter().tracing
    0.0
    """

    tracing = 0.0
    rows = 0


meter = Meter()
