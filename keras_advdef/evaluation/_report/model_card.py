"""model_card: a report as a model card in the form of the Hugging Face Hub."""

import json
import re
from typing import Any

from keras_advdef.core.cards import DefenceCard, all_cards
from keras_advdef.core.text import escape_markdown, markdown_table, printable
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation._report.plain_words import plain_words
from keras_advdef.evaluation._report.report_markdown import (
    about,
    headlines,
    report_tables,
)

_TAGS = ("keras", "image-classification", "adversarial-robustness")
# The tables of a report that a card repeats, by the beginning of their titles.
_TABLES = (
    "The model beside",
    "Accuracy, with",
    "Accuracy under each norm",
    "Sanity checks",
    "Certified",
    "Accuracy with common",
    "Accuracy per class",
    "How it was measured",
)


def model_card(data: dict[str, Any]) -> str:
    """Returns Markdown that starts with the metadata block of the Hub.

    Args:
        data: The contents of `report.json`.
    """
    words = plain_words(data)
    facts = [[name, value] for name, value in about(data)]
    parts = [
        _metadata(data),
        f"# {escape_markdown(_name(data))}",
        "An image classifier, evaluated with keras_advdef against adversarial images.",
        markdown_table(["", ""], facts),
        "## Robustness",
        *map(escape_markdown, filter(None, words.sentences)),
        *(f"**{escape_markdown(text).strip()}**" for text in headlines(data)),
        *_defences(data["defences"]),
        *_tables(data),
        "## What this card does not say",
        "The report knows neither the training data nor the licence nor what the model "
        "is meant for. Add them here.",
    ]
    return "\n\n".join(parts) + "\n"


def _name(data: dict[str, Any]) -> str:
    model = data["run"].get("model") or {}
    return printable(model.get("name") or "image classifier")


def _metadata(data: dict[str, Any]) -> str:
    """The block of YAML. Texts are JSON strings, which YAML reads, too."""
    images = data["run"].get("data") or {}
    source = printable(images.get("name") or "images")
    slug = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-") or "images"
    label = epsilon_label(data["epsilon"], data["norm"], data["value_range"])
    attacked = f"accuracy under attack, {data['norm']} epsilon {label}"
    metrics = (
        ("clean accuracy", data["clean"]["accuracy"]),
        (attacked, data["adaptive"]["accuracy"]),
    )
    return "\n".join(
        [
            "---",
            "library_name: keras",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in _TAGS),
            "metrics:",
            "- accuracy",
            "model-index:",
            f"- name: {_quoted(_name(data))}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            f"      type: {_quoted(slug)}",
            f"      name: {_quoted(source)}",
            "    metrics:",
            *(
                f"    - type: accuracy\n      value: {value!r}\n"
                f"      name: {_quoted(name)}"
                for name, value in metrics
            ),
            "---",
        ]
    )


def _quoted(text: str) -> str:
    return json.dumps(printable(text))


def _defences(names: list[str]) -> list[str]:
    """What the cards of the model's defences say."""
    if not names:
        return []
    cards, parts = all_cards(), ["## Defences in the model"]
    for name in names:
        title = f"### {escape_markdown(name)}"
        card = cards.get(name)
        parts += [title, *([] if card is None else _defence(card))]
    return parts


def _defence(card: DefenceCard) -> list[str]:
    broken = [
        "- " + escape_markdown(f"{each.attack}: {each.result} ({each.source}).")
        for each in card.breaks
    ]
    claim = f"Claim: {card.claim.rstrip('.')}. Standing today: {card.standing}."
    said = (card.summary, claim, f"{card.paper}.")
    return [*map(escape_markdown, said), *(["\n".join(broken)] if broken else [])]


def _tables(data: dict[str, Any]) -> list[str]:
    parts = []
    for title, header, rows in report_tables(data):
        if title.startswith(_TABLES):
            parts += [f"## {escape_markdown(title)}", markdown_table(header, rows)]
    return parts
