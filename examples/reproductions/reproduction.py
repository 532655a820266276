"""What the reproductions share: their command line, clock and printed table."""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks import Attack
from keras_advdef.evaluation import (
    AccuracyEstimate,
    RobustnessReport,
    evaluate_robustness,
)


def parse_arguments(script: str, description: str) -> argparse.Namespace:
    """Returns the command line of a reproduction.

    Args:
        script: `__file__` of the script; the table goes beside it by default.
        description: One sentence for `--help`.

    Returns:
        `data`, `seed`, `smoke` and `output`, the last `None` in a smoke run that
        names none, so that it leaves the committed table alone.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data", help=".npz in the layout of keras.datasets; default: download MNIST"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes every draw")
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    parser.add_argument("--output", type=Path, help="where to write the table (.md)")
    arguments = parser.parse_args()
    if arguments.output is None and not arguments.smoke:
        arguments.output = Path(script).with_suffix(".md")
    return arguments


def command(script: str, arguments: argparse.Namespace) -> str:
    """Returns the command that repeats a run, without the paths of this machine."""
    parts = ["python", f"examples/reproductions/{Path(script).name}"]
    if arguments.data is not None:
        parts += ["--data", Path(arguments.data).name]
    return " ".join([*parts, "--seed", str(arguments.seed)])


class Clock:
    """Measures wall and processor time of a `with` block.

    Example:

    >>> with Clock() as clock:
    ...     total = sum(range(1000))
    >>> str(clock)
    '0 s (0 s of processor time)'
    """

    def __enter__(self) -> "Clock":
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wall = time.perf_counter() - self._start[0]
        self.processor = time.process_time() - self._start[1]

    def __str__(self) -> str:
        return f"{self.wall:.0f} s ({self.processor:.0f} s of processor time)"


def count_correct(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    attack: Attack,
    seed: int,
) -> tuple[int, int]:
    """Returns how many images are right before and after an attack.

    Args:
        model: The classifier.
        images: Clean images.
        labels: Their classes.
        attack: The attack, with an epsilon.
        seed: Fixes its draws.

    Returns:
        Two counts: clean, and under the attack.
    """
    adversarial = attack.generate(
        model, images, labels, seed=seed, batch_size=250, verbose=0
    )
    clean, attacked = (
        int((attack.predict(model, each, batch_size=250) == labels).sum())
        for each in (images, adversarial)
    )
    return clean, attacked


def quick_report(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    seed: int,
) -> RobustnessReport:
    """Returns the report of `evaluate_robustness` with the quick budget, in linf.

    Args:
        model: The classifier.
        images: Clean images in `[0, 1]`.
        labels: Their classes.
        epsilon: Of the attacks.
        seed: Fixes every draw.
    """
    options = {"budget": "quick", "curve": [], "seed": seed}
    return evaluate_robustness(model, images, labels, epsilon=epsilon, **options)


def percent(count: int, total: int) -> str:
    """Returns a share in percent with its 95 % Clopper-Pearson interval.

    Example:

    >>> percent(90, 100)
    '90.0 % [82.4, 95.1]'
    """
    return str(AccuracyEstimate(count, total))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table.

    Args:
        header: Titles of the columns.
        rows: Cells, as many in each row.

    Returns:
        Lines of equal width; the first column is aligned left, the others right.
    """
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def publish(
    title: str, body: str, *, facts: dict[str, str], output: Path | None
) -> None:
    """Prints a report, and writes it to the file that the user named.

    Args:
        title: Heading.
        body: Table and sentences.
        facts: What one needs to repeat the run, by name.
        output: File to write, or `None`.
    """
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU"
    if tf.config.list_physical_devices("GPU"):
        machine = machine.replace("no GPU", "with GPU")
    facts = {
        **facts,
        "Machine": f"{machine}; TensorFlow {tf.__version__}, Keras {keras.__version__}",
        "Date": datetime.date.today().isoformat(),
    }
    listed = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text = f"# {title}\n\n{body}\n\n{listed}\n"
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
