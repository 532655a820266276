"""Prints text literally."""

from rich.console import Console

from keras_advdef.core.text import printable


def print_line(console: Console, text: str) -> None:
    """Prints one line literally: no markup, colours, wrapping or control sequences.

    Args:
        console: Where to print.
        text: The line.
    """
    console.print(
        printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True
    )
