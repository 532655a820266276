"""Prints text on a console as it is."""

from rich.console import Console


def print_line(console: Console, text: str) -> None:
    """Prints a line: no markup, no colours, no wrapping.

    Args:
        console: Where to print.
        text: The line.
    """
    console.print(text, markup=False, highlight=False, soft_wrap=True)
