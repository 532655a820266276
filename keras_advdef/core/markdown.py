"""Text and tables as Markdown."""

import re
from collections.abc import Sequence

from keras_advdef.core.errors import printable

# What makes a line more than its text, in GitHub's Markdown too: escapes, code, stress,
# links and pictures, tags, columns, formulas, entities, bare addresses, and the marks
# that end a heading. What cannot mean anything in its place stays readable.
_MARKUP = re.compile(
    r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|&(?=#?\w+;)"
    r"|:(?=//)|(?<=www)\.|#(?=#*$)",
    re.IGNORECASE,
)


def escaped(text: str) -> str:
    r"""Returns Markdown that shows a text as it is, within a line.

    Args:
        text: Any text; what is not to be printed is escaped first, see `printable`.

    Example:

    >>> from keras_advdef.core.markdown import escaped
    >>> print(escaped("*my_model*.keras <b>"))
    \*my_model\*.keras \<b>
    """
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool = False
) -> str:
    r"""Returns a Markdown table that shows texts as they are.

    Args:
        header: Titles of the columns.
        rows: Cells, as many in each row.
        named: Whether the first cell of a row is a name in Python, shown as code.

    Example:

    >>> from keras_advdef.core.markdown import markdown_table
    >>> print(markdown_table(["a", "b"], [["1", "2|3"]]))
    | a | b |
    | --- | --- |
    | 1 | 2\|3 |
    """
    lines = [[*map(escaped, header)], ["---"] * len(header)]
    for first, *others in rows:
        shown = f"`{first}`" if named else escaped(first)
        lines.append([shown, *map(escaped, others)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
