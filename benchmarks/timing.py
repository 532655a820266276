"""Interleaved timing: ratios from one run, with the machine they were taken on."""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_TURNS = 3
_CPU_FILE = Path("/proc/cpuinfo")


def parse_arguments(
    description: str,
    *,
    rounds: int,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """Returns the command line of a benchmark: `rounds`, `threads` and `smoke`.

    Args:
        description: One sentence for `--help`.
        rounds: Default number of rounds.
        add_options: Adds the benchmark's own options.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--threads", type=int, default=0, help="TensorFlow's threads; 0 for all cores"
    )
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    if add_options:
        add_options(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds = 1
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    return arguments


def interleave(
    build: Callable[[], dict[str, Callable[[], Any]]], *, rounds: int
) -> dict[str, np.ndarray]:
    """Times functions in turns, so that a busy machine slows all of them equally.

    Each round builds the functions again: depending on where its buffers end up in
    memory, the same graph can be up to a third slower for as long as it exists.

    Args:
        build: Returns functions by name.
        rounds: How often they are built and timed; every other round goes backwards.

    Returns:
        Seconds by name, shape `(2, rounds)`: wall time and processor time.
    """
    seconds: dict[str, list[Any]] = {}
    for index in range(rounds):
        candidates = build()
        order = list(candidates)[:: -1 if index % 2 else 1]
        # The first turn compiles; it is never the fastest.
        turns = [[_timed(candidates[name]) for name in order] for _ in range(_TURNS)]
        fastest = np.min(turns, axis=0)
        for name in candidates:
            seconds.setdefault(name, []).append(fastest[order.index(name)])
    return {name: np.transpose(values) for name, values in seconds.items()}


def _timed(function: Callable[[], Any]) -> np.ndarray:
    start = np.array([time.perf_counter(), time.process_time()])
    function()
    return np.array([time.perf_counter(), time.process_time()]) - start


RATIO_HEADER = ("", "fastest", "ratio", "median", "processor", "target", "")


def ratio_rows(
    seconds: dict[str, np.ndarray], *, per: int, limits: dict[str, float]
) -> list[list[str]]:
    """Returns table rows of times and of ratios to the first candidate.

    Args:
        seconds: What `interleave` returned.
        per: Calls or steps inside each timed call.
        limits: Largest ratio that meets the target, by name.

    Returns:
        Name, fastest time, ratio of the fastest times, median of the rounds' ratios,
        ratio of the smallest processor times, target, and whether the first ratio
        meets it.
    """
    bare_wall, bare_processor = next(iter(seconds.values()))
    rows = []
    for name, (wall, processor) in seconds.items():
        fastest = float(wall.min() / bare_wall.min())
        ratios = [
            fastest,
            float(np.median(wall / bare_wall)),
            float(processor.min() / bare_processor.min()),
        ]
        shown = [f"{ratio:.3f}" for ratio in ratios]
        row = [name, f"{wall.min() / per:.3f} s", *shown]
        rows.append([*row, *verdict(fastest, limits.get(name))])
    return rows


def verdict(
    value: float, limit: float | None, unit: str = "", *, at_least: bool = False
) -> list[str]:
    """Returns the target and whether a value meets it, as two cells.

    Args:
        value: The measured value.
        limit: The largest value that meets the target; `None` for no target.
        unit: Unit of both.
        at_least: Whether it is the smallest such value instead.
    """
    if limit is None:
        return ["-", "-"]
    sign, is_met = (">=", value >= limit) if at_least else ("<=", value <= limit)
    return [f"{sign} {limit:.2f}{unit}", "pass" if is_met else "MISS"]


def print_report(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: str
) -> None:
    """Prints a Markdown section: title, notes, table, machine and date.

    Args:
        title: Heading.
        header: Titles of the columns.
        rows: Cells.
        notes: What was compared, in a sentence or two.
    """
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) for c, w in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width for width in widths]
    print(f"## {title}\n\n{notes}\n")
    print("\n".join([line(header), line(rule), *map(line, rows)]))
    print(f"\n{machine()}; {datetime.date.today().isoformat()}.\n")


def machine() -> str:
    """Returns a description of the machine."""
    processor = platform.machine()
    if _CPU_FILE.exists():
        lines = _CPU_FILE.read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
        processor = (names or [processor])[0]
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    accelerator = "GPU" if tf.config.list_physical_devices("GPU") else "no GPU"
    return (
        f"{os.cpu_count()} CPU cores ({processor}), {accelerator}, threads: "
        f"{threads}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
