"""Renders a report as one self-contained HTML page."""

import base64
import io
from typing import Any

from keras_advdef.core.text import printable
from keras_advdef.evaluation._report.report_markdown import report_tables


def report_html(data: dict[str, Any], figure: Any) -> str:
    """Returns the page: no scripts, no external resources, readable on a phone.

    Args:
        data: The contents of `report.json`.
        figure: The matplotlib figure to inline.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("keras_advdef.evaluation", "templates")
    template = Environment(loader=loader, autoescape=True).get_template("report.html")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return template.render(
        headline=printable(data["headline"]),
        finding=printable(data["union"]["finding"]) if "union" in data else "",
        alarmed=any(check["passed"] is False for check in data["checks"]),
        tables=report_tables(data),
        picture=base64.b64encode(buffer.getvalue()).decode(),
    )
