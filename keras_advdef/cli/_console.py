"""CommandConsole: the console of the command line."""

import os

from rich.console import Console


class OutputClosed(BaseException):
    """Raised where whoever read the output has closed it, as `head` does."""


class CommandConsole(Console):
    """A console that tells when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Stands in for leaving with exit code 1, which says something else.

        Raises:
            OutputClosed: Always.
        """
        self.quiet = True
        # Python writes what is left in the buffer when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise OutputClosed
