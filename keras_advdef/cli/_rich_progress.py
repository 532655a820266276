"""Shows the progress of an evaluation."""

import types

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from keras_advdef.cli._print_line import print_line
from keras_advdef.core.progress import LineProgress, time_left


class RichProgress(LineProgress):
    """A bar on a terminal, plain lines elsewhere. Use it in a `with` statement.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[left]} images left{task.fields[time]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        self._shown = ""

    def __enter__(self) -> "RichProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        print_line(self._console, text)

    def update(self, attack: str, *, left: int, seconds: float | None) -> None:
        if not self._console.is_terminal:
            super().update(attack, left=left, seconds=seconds)
            return
        time = time_left(seconds)
        if self._task is None or attack != self._shown:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._shown = attack
            self._task = self._bar.add_task(attack, total=left, left=left, time=time)
        total = self._bar.tasks[0].total or 0
        self._bar.update(self._task, completed=total - left, left=left, time=time)
