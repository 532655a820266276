import io

import pytest
from rich.console import Console

from keras_advdef.cli._print_line import print_line
from keras_advdef.core.text import printable
from tests.support.hostile_text import HOSTILE_TEXT


def test_text_stays_as_it_is():
    stream = io.StringIO()
    text = "[bold]'8/255'[/bold]" + 20 * " word"
    print_line(Console(file=stream, width=20, force_terminal=True), text)
    assert stream.getvalue() == text + "\n"


def test_names_of_files_command_nothing():
    stream = io.StringIO()
    name = "a:smile:\n\x1b[31m\u202eb\udcff"
    print_line(Console(file=stream, force_terminal=True), name)
    assert stream.getvalue() == "a:smile:\\n\\x1b[31m\\u202eb\\udcff\n"


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_nothing_but_text_reaches_the_terminal(text):
    stream = io.StringIO()
    print_line(Console(file=stream, width=20, force_terminal=True), text)
    assert stream.getvalue() == printable(text) + "\n"
