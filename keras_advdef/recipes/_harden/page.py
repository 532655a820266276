"""Renders the page of a hardened model."""

from typing import TYPE_CHECKING, Any

from keras_advdef.core.pictures import figure_url
from keras_advdef.core.text import duration
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.recipes._harden.curves import epsilon_figure

if TYPE_CHECKING:
    from keras_advdef.recipes.hardened_model import HardenedModel

_DPI = 150


def hardened_page(hardened: "HardenedModel") -> str:
    """Returns one self-contained page: no scripts, no external resources.

    Args:
        hardened: The hardened model.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("keras_advdef.recipes", "templates")
    page = Environment(loader=loader, autoescape=True).get_template("hardened.html")
    facts = hardened.facts
    example = hardened.example
    return page.render(
        facts=facts,
        count=hardened.after.clean["count"],
        before=_right(hardened.before.data),
        after=_right(hardened.after.data),
        rows=[
            (name, percent(one), percent(other))
            for name, one, other in (
                ("clean images", hardened.before.clean, hardened.after.clean),
                ("attacked", hardened.before.adaptive, hardened.after.adaptive),
            )
        ],
        headline=hardened.after.headline,
        about=_about(facts),
        curves=figure_url(hardened.plot(), dpi=_DPI),
        example=None
        if example is None
        else figure_url(epsilon_figure(example, facts["epsilon_text"]), dpi=_DPI),
    )


def _right(data: dict[str, Any]) -> dict[str, int]:
    """Returns how many images are right, clean and attacked."""
    return {
        name: round(data[name]["accuracy"] * data[name]["count"])
        for name in ("clean", "adaptive")
    }


def _about(facts: dict[str, Any]) -> list[tuple[str, str]]:
    best = f"the best was epoch {facts['best_epoch'] + 1}"
    rows = [
        ("recipe", facts["recipe"]),
        ("attacker", facts["epsilon_text"]),
        ("training", f"{facts['epochs']} epochs, {best}"),
        ("time of training", duration(facts["seconds"])),
        ("crafted in", facts["precision"]),
        ("seed", str(facts["seed"])),
        ("data", facts["data"]),
    ]
    if facts["stopped"]:
        rows.append(("end of training", facts["stopped"]))
    return [*rows, *(("note", each) for each in facts["notes"])]
