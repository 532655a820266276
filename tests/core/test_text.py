"""What a renderer of Markdown makes of texts and tables."""

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest

from keras_advdef.core.text import (
    duration,
    escape_markdown,
    markdown_table,
    printable,
)
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.rendered_markdown import only_text, rendered

_TEXT = st.text(st.sampled_from("\\`*_[]()<>!|~$&;#:/.w-+=>ab1 \n\t\x1b\u202e"))


def cells(markdown):
    """The texts in the rows of a table, if there is nothing else."""
    kinds, rows, row = set(), [], []
    for token in rendered(markdown):
        kinds.add(token.type.partition("_")[0])
        if token.type == "tr_open":
            row = []
            rows.append(row)
        elif token.type == "inline":
            row.append(only_text(token))
    assert kinds <= {"table", "thead", "tbody", "tr", "th", "td", "inline"}
    return rows


def check_cells(texts):
    rows = [texts, texts[::-1]]
    expected = [[printable(text).strip() for text in row] for row in (texts, *rows)]
    assert cells(markdown_table(texts, rows)) == expected


def check_bold(text):
    shown = printable(text).strip() or "x"
    start, inline, end = rendered(f"**{escape_markdown(shown)}**")
    assert (start.type, end.type) == ("paragraph_open", "paragraph_close")
    opened, *inner, closed = (
        each for each in inline.children if each.content or each.tag
    )
    assert (opened.type, closed.type) == ("strong_open", "strong_close")
    assert "".join(child.content for child in inner) == shown


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE_TEXT)
    def test_bold(self, text):
        check_bold(text)

    def test_cells(self):
        for pair in itertools.pairwise(HOSTILE_TEXT):
            check_cells(list(pair))

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
    @hypothesis.given(_TEXT, _TEXT)
    def test_drawn(self, first, second):
        check_cells([first, second])
        check_bold(first)

    @pytest.mark.nightly
    @hypothesis.settings(max_examples=5000, deadline=None)
    @hypothesis.given(_TEXT, _TEXT)
    def test_many_drawn(self, first, second):
        check_cells([first, second])
        check_bold(first)


def test_bare_addresses_are_no_links():
    text = escape_markdown("see https://a.b, HTTP://c.d and WWW.e.f")
    assert text == r"see https\://a.b, HTTP\://c.d and WWW\.e.f"


@pytest.mark.parametrize(
    "text", ["my_model.keras", "90.0 % [82.0, 95.0]", "C&W -> a; b (c) #1 1.5", "a:b"]
)
def test_harmless_text_stays_readable(text):
    assert escape_markdown(text) == text


def test_names_in_python_are_code():
    table = markdown_table(["name", "cost"], [["a_b", "1*"]], named=True)
    assert table.splitlines()[2] == r"| `a_b` | 1\* |"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
