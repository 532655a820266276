import sys

import pytest

from keras_advdef.core.progress import (
    LineProgress,
    Progress,
    duration,
    time_left,
)


def test_silence(capsys):
    Progress().line("a")
    Progress().update("PGD", left=1, seconds=1.0)
    assert capsys.readouterr().out == ""


def test_a_line_when_an_attack_begins(capsys):
    progress = LineProgress()
    for left in (10, 5):
        progress.update("PGD", left=left, seconds=None)
    progress.update("Square", left=5, seconds=61.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "PGD: 10 images left",
        "Square: 5 images left, about 1 min 1 s to go",
    ]


def test_nothing_but_text_reaches_the_terminal(capsys):
    LineProgress().line("a \x1b[2J b\nc")
    assert capsys.readouterr().out == "a \\x1b[2J b\\nc\n"


def test_there_may_be_no_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw and `>&-`
    LineProgress().line("a")


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


def test_time_left():
    assert time_left(None) == ""
    assert time_left(5.0) == ", about 5 s to go"
    assert time_left(0.2) == ", about 1 s to go"
