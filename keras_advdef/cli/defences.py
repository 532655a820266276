"""The command `defences`: what each defence claims, and what broke it."""

import dataclasses
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli.print_line import print_line
from keras_advdef.core.cards import DefenceCard, all_cards
from keras_advdef.core.errors import invalid
from keras_advdef.evaluation.report_markdown import markdown_table


def run_defences(name: str | None, *, as_json: bool, console: Console) -> None:
    """Prints all cards in short, or one in full.

    Args:
        name: Class name of a defence, or `None` for all.
        as_json: Whether to print JSON.
        console: Where to print.

    Raises:
        ValueError: If there is no defence of that name.
    """
    cards = all_cards()
    if name is not None and name not in cards:
        rule = f"one of {', '.join(cards)}"
        raise invalid("keras-advdef defences", "NAME", rule, name)
    chosen = cards if name is None else {name: cards[name]}
    if as_json:
        values = {key: dataclasses.asdict(card) for key, card in chosen.items()}
        text = json.dumps(values if name is None else values[name], indent=2)
        print_line(console, text)
    elif name is None:
        console.print(_overview(chosen))
    else:
        _print_card(name, cards[name], console)


def _overview(cards: dict[str, DefenceCard]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Defences of this package")
    for column in ("name", "category", "standing"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it does")
    for name, card in cards.items():
        table.add_row(name, card.category, card.standing, card.summary)
    return table


def _print_card(name: str, card: DefenceCard, console: Console) -> None:
    def line(title: str, value: Any) -> None:
        print_line(console, f"{title}: {value}")

    line(name, card.summary)
    line("Category", card.category)
    line("Paper", card.paper)
    line("Claim", card.claim)
    line("Standing", card.standing)
    for each in card.breaks:
        line("Broken by", f"{each.attack}: {each.result} ({each.source})")
    line("To be attacked with", ", ".join(card.attacks))
    line("Gradient", card.gradient)
    line("Draws of EOT", card.eot_samples)
    line("Training cost", card.training_cost)
    line("Inference cost", card.inference_cost)


def defences_table() -> str:
    """Returns the README's table of the defences, as Markdown.

    Example:

    >>> from keras_advdef.cli.defences import defences_table
    >>> print(defences_table().splitlines()[0])
    | defence | category | what it does | standing | what broke it |
    """
    rows = [
        [
            f"`{name}`",
            card.category,
            card.summary,
            card.standing,
            "; ".join(f"{b.attack} ({b.source})" for b in card.breaks) or "-",
        ]
        for name, card in all_cards().items()
    ]
    header = ["defence", "category", "what it does", "standing", "what broke it"]
    return markdown_table(header, rows)
