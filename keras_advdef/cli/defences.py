"""The command `defences`: what each defence claims, and what broke it."""

import dataclasses
import json

from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._print_line import print_line
from keras_advdef.core.cards import DefenceCard, all_cards
from keras_advdef.core.text import markdown_table
from keras_advdef_command.defence_names import card_name, is_part


def run_defences(name: str | None, *, as_json: bool, console: Console) -> None:
    """Prints a table of all defences, or the card of one.

    Args:
        name: Name of a defence or of a part of one, as `card_name` accepts it; `None`
            for all.
        as_json: Whether to print JSON.
        console: Where to print.

    Raises:
        RefusedArgument: If there is no defence with that name.
    """
    cards = all_cards()
    chosen = None if name is None else card_name(name)
    if as_json:
        values = {key: dataclasses.asdict(card) for key, card in cards.items()}
        text = json.dumps(values if chosen is None else values[chosen], indent=2)
        for line in text.splitlines():
            print_line(console, line)
    elif chosen is None:
        console.print(_overview(cards), markup=False, emoji=False)
    else:
        if is_part(name or "", chosen):
            print_line(console, f"{name} is part of the defence {chosen}.")
        _print_card(chosen, cards[chosen], console)


def _overview(cards: dict[str, DefenceCard]) -> Table:
    """Returns a table 80 columns wide, with one section per category."""
    table = Table(box=box.SIMPLE_HEAD, title="Defences of this package", width=80)
    for column in ("name", "standing"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it does")
    for category in dict.fromkeys(card.category for card in cards.values()):
        table.add_row(category, style="bold")
        for name, card in cards.items():
            if card.category == category:
                table.add_row(f"  {name}", card.standing, card.summary)
        table.add_section()
    return table


def _print_card(name: str, card: DefenceCard, console: Console) -> None:
    def line(title: str, value: object) -> None:
        print_line(console, f"{title}: {value}")

    line(name, card.summary)
    line("Category", card.category)
    line("Paper", card.paper)
    line("Claim", card.claim)
    line("Standing", card.standing)
    for each in card.breaks:
        line("Broken by", f"{each.attack}: {each.result} ({each.source})")
    line("Attack it with", ", ".join(card.attacks))
    line("Gradient", card.gradient)
    line("EOT samples", card.eot_samples)
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
            name,
            card.category,
            card.summary,
            card.standing,
            "; ".join(f"{b.attack} ({b.source})" for b in card.breaks) or "-",
        ]
        for name, card in all_cards().items()
    ]
    header = ["defence", "category", "what it does", "standing", "what broke it"]
    return markdown_table(header, rows, named=True)
