"""Renders the templates of pages."""

import re
from typing import TYPE_CHECKING, Any

from keras_advdef.evaluation._report.glossary import Glossary
from keras_advdef.evaluation._report.plain_words import right_of

if TYPE_CHECKING:
    from markupsafe import Markup

_INTERVAL = re.compile(r"\[[-+.\d]+, [-+.\d]+\]")
# Longer tables are folded.
_LONG = 25

# Class of style, name, number of images and their percentage.
Share = tuple[str, str, int, float]


def render_page(template: str, **values: Any) -> str:
    """Returns a page: no scripts, no external resources, readable on a phone.

    Args:
        template: Name of the template.
        **values: What it shows.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("keras_advdef.evaluation", "templates")
    environment = Environment(loader=loader, autoescape=True)
    glossary = Glossary()
    environment.filters |= {"explained": glossary.explained, "unbroken": _unbroken}
    environment.globals |= {"glossary": glossary, "long": _LONG}
    return environment.get_template(template).render(**values)


def _unbroken(text: str) -> "Markup":
    """Keeps the two ends of an interval on one line."""
    from markupsafe import Markup, escape

    # A plain string: the methods of `Markup` would escape the span.
    escaped = str(escape(text))
    return Markup(_INTERVAL.sub(r'<span class="whole">\g<0></span>', escaped))


def shares(data: dict[str, Any]) -> list[Share]:
    """Returns the parts of the bar that shows how many images survive.

    Args:
        data: The contents of `report.json`, or of its "reference".
    """
    count, clean, left = (
        data["clean"]["count"],
        right_of(data["clean"]),
        right_of(data["adaptive"]),
    )
    kinds = (
        ("kept", "right, whatever the attacks did", left),
        ("lost", "right, but some attack succeeds", max(clean - left, 0)),
        ("wrong", "wrong without any attack", count - max(clean, left)),
    )
    return [
        (style, name, number, 100 * number / max(count, 1))
        for style, name, number in kinds
    ]
