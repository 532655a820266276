"""Prints text on a console as it is."""

from rich.console import Console

from keras_advdef.core.errors import printable


def print_line(console: Console, text: str) -> None:
    """Prints one line: no markup, no colours, no wrapping, no commands.

    Args:
        console: Where to print.
        text: The line.
    """
    console.print(
        printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True
    )
