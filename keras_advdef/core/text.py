"""Texts for people: made safe to print, cut, with units, as Markdown."""

import re
from collections.abc import Sequence

# What makes a line more than its text, in GitHub's Markdown too: escapes, code, stress,
# links and pictures, tags, columns, formulas, entities, bare addresses, and the marks
# that end a heading. What cannot mean anything in its place stays readable.
_MARKUP = re.compile(
    r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|&(?=#?\w+;)"
    r"|:(?=//)|(?<=www)\.|#(?=#*$)",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    r"""Returns a text in one line that commands no terminal.

    Names of files and what lies in them may hold anything: line breaks, sequences that
    clear a screen, letters that turn the direction of what follows.

    Args:
        text: Any text.

    Returns:
        The text, with an escape for each character that is not to be printed.

    Example:

    >>> print(keras_advdef.core.text.printable("a\x1b[2J b"))
    a\x1b[2J b
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def shortened(text: str, most: int) -> str:
    """Returns a text, or its beginning and three dots.

    Args:
        text: Any text.
        most: Its characters at most.

    Example:

    >>> keras_advdef.core.text.shortened("a long name", 9)
    'a long...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."


def duration(seconds: float) -> str:
    """Returns a time as people say it.

    Args:
        seconds: Any number of at least 0.

    Example:

    >>> from keras_advdef.core.text import duration
    >>> duration(59.6), duration(3725)
    ('1 min', '1 h 2 min')
    """
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{whole} s"


def size_text(count: int) -> str:
    """Returns a number of bytes as people say it.

    Args:
        count: Any number of at least 0.

    Example:

    >>> keras_advdef.core.text.size_text(3 * 2**20)
    '3 MiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]  # the last digits do not matter
    return f"{count:.3g} TiB"


def escape_markdown(text: str) -> str:
    r"""Returns Markdown that shows a text as it is, within a line.

    Args:
        text: Any text; what is not to be printed is escaped first, see `printable`.

    Example:

    >>> from keras_advdef.core.text import escape_markdown
    >>> print(escape_markdown("*my_model*.keras <b>"))
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

    >>> from keras_advdef.core.text import markdown_table
    >>> print(markdown_table(["a", "b"], [["1", "2|3"]]))
    | a | b |
    | --- | --- |
    | 1 | 2\|3 |
    """
    lines = [[*map(escape_markdown, header)], ["---"] * len(header)]
    for first, *others in rows:
        shown = f"`{first}`" if named else escape_markdown(first)
        lines.append([shown, *map(escape_markdown, others)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
