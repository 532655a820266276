"""Text for people: printable, shortened, with units, or as Markdown."""

import re
from collections.abc import Sequence

# Everything that Markdown, GitHub's too, reads as more than text: escapes, code,
# emphasis, links and images, tags, columns, formulas, entities, bare URLs, and the
# marks that close a heading. Characters without a meaning in their place stay as is.
_MARKUP = re.compile(
    r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|&(?=#?\w+;)"
    r"|:(?=//)|(?<=www)\.|#(?=#*$)",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    r"""Returns a text on one line, without control sequences.

    File names and file contents may hold anything: line breaks, sequences that clear
    a terminal, characters that reverse the direction of the text.

    Args:
        text: Any text.

    Returns:
        The text, with every unprintable character escaped.

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
    """Returns a text, cut to its beginning and three dots if it is too long.

    Args:
        text: Any text.
        most: Largest length of the result, in characters.

    Example:

    >>> keras_advdef.core.text.shortened("a long name", 9)
    'a long...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."


def duration(seconds: float) -> str:
    """Returns a time in hours, minutes and seconds.

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
    """Returns a number of bytes with a unit, to three digits.

    Args:
        count: Any number of at least 0.

    Example:

    >>> keras_advdef.core.text.size_text(3 * 2**20)
    '3 MiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]  # a float is exact enough
    return f"{count:.3g} TiB"


def escape_markdown(text: str) -> str:
    r"""Returns inline Markdown that renders as the text itself.

    Args:
        text: Any text; `printable` is applied first.

    Example:

    >>> from keras_advdef.core.text import escape_markdown
    >>> print(escape_markdown("*my_model*.keras <b>"))
    \*my_model\*.keras \<b>
    """
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool = False
) -> str:
    r"""Returns a Markdown table whose cells render as the texts themselves.

    Args:
        header: Column titles.
        rows: Rows of cells, each as long as the header.
        named: Whether the first cell of each row is a Python name, shown as code.

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
