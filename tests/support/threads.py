"""Calls functions from several threads at once."""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 8
# Python's switch interval in seconds: 5000 times shorter than the default.
_INTERVAL = 1e-6


def in_other_thread(call: Callable[[], Any]) -> Any:
    """Returns or raises what a function does in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def called_by_threads(call: Callable[[], Any], count: int) -> list[Any]:
    """Returns the results when eight threads call a function, `count` times in all.

    Args:
        call: The function.
        count: A multiple of eight.
    """

    def work(_: int) -> list[Any]:
        return [call() for _ in range(count // THREADS)]

    made = run_together([work] * THREADS, 1)
    return [each for thread in made for each in thread[0]]


def run_together(works: Sequence[Callable[[int], Any]], rounds: int) -> list[list[Any]]:
    """Runs functions at the same time, each in its own thread, and returns the results.

    Args:
        works: Functions that take the number of the round.
        rounds: How often each function is called.
    """
    start = threading.Barrier(len(works))

    def run(work: Callable[[int], Any]) -> list[Any]:
        start.wait()
        return [work(turn) for turn in range(rounds)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_INTERVAL)
    try:
        with ThreadPoolExecutor(len(works)) as pool:
            return list(pool.map(run, works))
    finally:
        sys.setswitchinterval(interval)
