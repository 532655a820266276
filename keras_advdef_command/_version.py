"""The version of the package, read without importing it."""

import ast
import importlib.util
from pathlib import Path


def version() -> str:
    """Returns `keras_advdef.__version__`.

    Metadata of an installation would be out of date in a checkout.

    Example:

    >>> from keras_advdef_command._version import version
    >>> version().count(".")
    2
    """
    spec = importlib.util.find_spec("keras_advdef")
    source = Path(str(spec and spec.origin)).read_text(encoding="utf-8")
    [assigned] = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "__version__"
    ]
    return str(ast.literal_eval(assigned))
