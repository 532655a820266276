"""Prints what a model was worth before and after it was hardened."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._print_line import print_line
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.recipes.hardened_model import HardenedModel


def print_hardened(hardened: HardenedModel, output: Path, console: Console) -> None:
    """Prints both numbers before and after, and where the files are.

    Args:
        hardened: The result of `harden`.
        output: The folder that it wrote to.
        console: Where to print.
    """
    table = Table(box=box.SIMPLE_HEAD, title="Accuracy, 95 % Clopper-Pearson intervals")
    table.add_column("images")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    before, after = hardened.before, hardened.after
    for name, one, other in (
        ("clean", before.clean, after.clean),
        ("under all attacks", before.adaptive, after.adaptive),
    ):
        table.add_row(name, percent(one), percent(other))
    console.print(table)
    print_line(console, after.headline)
    print_line(
        console,
        f"Written to {output}: model.keras, served/, report.html, comparison.html; "
        "before/, after/",
    )
