"""Writes `api.txt`, one line for each public name: `python -m tests.golden.refresh`.

Review the difference, and tell the users of a changed line in `CHANGELOG.md`.
"""

import importlib
import inspect
from pathlib import Path

API = Path(__file__).with_name("api.txt")
FOLDERS = (
    "attacks",
    "callbacks",
    "core",
    "layers",
    "losses",
    "objectives",
    "training",
)


def public_names():
    """Returns pairs of `folder.Name` and what bears the name."""
    for folder in FOLDERS:
        module = importlib.import_module(f"keras_advdef.{folder}")
        for name in getattr(module, "__all__", ()):
            yield f"{folder}.{name}", getattr(module, name)


def _signature(public):
    signature = inspect.signature(public)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def api_text():
    """Returns the sorted lines `folder.Name(signature)`."""
    lines = [name + _signature(public) for name, public in public_names()]
    return "\n".join(sorted(lines)) + "\n"


if __name__ == "__main__":
    API.write_text(api_text(), encoding="utf-8")
