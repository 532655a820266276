"""Writes `__all__` of each folder's `__init__.py` from what it imports."""

import ast
import importlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "keras_advdef"
INITS = [
    path
    for path in sorted(PACKAGE.rglob("__init__.py"))
    if "\n__all__ = [" in path.read_text(encoding="utf-8") and path.parent != PACKAGE
]
_LONGEST_LINE = 88


def exports_text(path: Path) -> str:
    """Returns the text of an `__init__.py`, with all imported names in `__all__`."""
    text = path.read_text(encoding="utf-8")
    names = [f'"{name}"' for name in imported_names(text)]
    line = f"__all__ = [{', '.join(names)}]"
    if len(line) > _LONGEST_LINE:
        line = "\n".join(["__all__ = [", *(f"    {name}," for name in names), "]"])
    return re.sub(r"^__all__ = \[.*?\]", line, text, flags=re.DOTALL | re.MULTILINE)


def imported_names(text: str) -> list[str]:
    """Returns the imported names, constants before classes and these before others."""
    statements = [node for node in ast.parse(text).body if type(node) is ast.ImportFrom]
    names = [alias.asname or alias.name for node in statements for alias in node.names]
    return sorted(names, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


def export_imported_names() -> None:
    """Makes the loaded package export what its folders import."""
    for path in INITS:
        parts = path.parent.relative_to(PACKAGE.parent).parts
        module = importlib.import_module(".".join(parts))
        module.__all__ = imported_names(path.read_text(encoding="utf-8"))
