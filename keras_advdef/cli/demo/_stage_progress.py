"""Shows the progress of the demo."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from keras_advdef.cli._print_line import print_line

_PLAIN_UPDATES = 4


class StageProgress:
    """Shows one stage after another: a bar on a terminal, plain lines elsewhere.

    Attributes:
        console: Where to print.
        seconds: Duration of each finished stage, by its name.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Prints one line literally.

        Args:
            text: The line.
        """
        print_line(self.console, text)

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[str], None]]:
        """Shows one stage while the body runs.

        Args:
            name: Name of the stage.
            total: Number of steps.

        Yields:
            A function to call after each step with a short note.
        """
        started = time.perf_counter()
        shown = self._bar if self.console.is_terminal else self._lines
        with shown(name, total) as advance:
            yield advance
        self.seconds[name] = time.perf_counter() - started
        self.line(f"{name}: done in {self.seconds[name]:.1f} s")

    @contextlib.contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Callable[[str], None]]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}  {task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=total, note="")
            yield lambda note: progress.update(task, advance=1, note=note)

    @contextlib.contextmanager
    def _lines(self, name: str, total: int) -> Iterator[Callable[[str], None]]:
        done = 0

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            if done * _PLAIN_UPDATES // total > (done - 1) * _PLAIN_UPDATES // total:
                self.line(f"{name}: {done}/{total}  {note}")

        yield advance
