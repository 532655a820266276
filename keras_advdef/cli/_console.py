"""The console that commands print to."""

import os

from rich.console import Console


class OutputClosed(BaseException):
    """Raised when the reader of the output has closed it, as `head` does."""


class CommandConsole(Console):
    """A console that raises `OutputClosed` when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Raises, where rich would exit with 1, which means a low accuracy here.

        Raises:
            OutputClosed: Always.
        """
        self.quiet = True
        # Python flushes the buffer when it exits, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise OutputClosed
