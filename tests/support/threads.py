"""Functions that threads call at once."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 8
# Python changes threads this often, in seconds; 5000 times as often as by default.
_INTERVAL = 1e-6


def in_other_thread(call: Callable[[], Any]) -> Any:
    """Returns what a function gives, or raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def called_by_threads(call: Callable[[], Any], count: int) -> list[Any]:
    """Returns what a function gives when eight threads call it, `count` times in all.

    Args:
        call: The function.
        count: A multiple of eight.
    """
    start = threading.Barrier(THREADS)

    def work(_: int) -> list[Any]:
        start.wait()
        return [call() for _ in range(count // THREADS)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_INTERVAL)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return [each for made in pool.map(work, range(THREADS)) for each in made]
    finally:
        sys.setswitchinterval(interval)
