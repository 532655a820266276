"""Writes what is generated: `python -m tests.golden.refresh`.

`api.txt` has one line for each public name; the README has the table of the defences.

Review the difference, and tell the users of a changed line in `CHANGELOG.md`.
"""

import inspect
from pathlib import Path

import keras_advdef
from keras_advdef.cli.defences import defences_table

API = Path(__file__).with_name("api.txt")
README = Path(__file__).parents[2] / "README.md"
_BEGIN, _END = "<!-- defences -->", "<!-- end of defences -->"


def public_names():
    """Returns pairs of `folder.Name` and what bears the name."""
    for folder in keras_advdef.__all__:
        module = getattr(keras_advdef, folder)
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


def readme_text():
    """Returns the README with the table of the defences as the cards have it."""
    before, _, rest = README.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{defences_table()}\n{_END}{after}"


if __name__ == "__main__":
    API.write_text(api_text(), encoding="utf-8")
    README.write_text(readme_text(), encoding="utf-8")
