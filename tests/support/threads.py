"""Functions that threads call at once."""

import sys
import threading
from collections.abc import Callable, Sequence
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

    def work(_: int) -> list[Any]:
        return [call() for _ in range(count // THREADS)]

    made = run_together([work] * THREADS, 1)
    return [each for thread in made for each in thread[0]]


def run_together(works: Sequence[Callable[[int], Any]], rounds: int) -> list[list[Any]]:
    """Returns what functions give that run at once, each in a thread of its own.

    Args:
        works: Functions of the number of the round.
        rounds: How often each is called.
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
