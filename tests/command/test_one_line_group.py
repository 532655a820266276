"""Refused arguments: one line on standard error, code 2, no TensorFlow."""

import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from keras_advdef_command._one_line_group import OneLineGroup
from keras_advdef_command.refusal import refusal
from tests.command.conftest import ROOT

_EVALUATE = ("evaluate", "net.keras", "--data", "digits", "--epsilon")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("dmo",), "No such command 'dmo'. Did you mean 'demo'? See `keras-advdef --h"),
        (("demo", "--epoch", "3"), "--epoch"),
        (("demo", "--epochs", "0"), "Invalid value for '--epochs'"),
        (("demo", "--epsilon", "8"), "`--epsilon` to be a number above 0 and at most"),
        (("demo", "--data", "mnits"), "`--data` to be one of digits, mnist, fashion_"),
        (("demo", "--output", "file/out"), "`--output` to be a folder that can be wri"),
        (("evaluate", "net.keras", "--data", "digits"), "Missing option '--epsilon'"),
        ((*_EVALUATE, "8"), "Did you mean 8/255 = 0.0314?"),
        ((*_EVALUATE, "0.1", "--norm", "l3"), "one of linf, l2, l1. Received: --norm="),
        ((*_EVALUATE, "0.1"), "`MODEL` to be a .keras or .h5 file, or the folder of a"),
        (("defences", "RandomNois"), "Did you mean RandomNoise? `keras-advdef defence"),
    ],
)
def test_refused_arguments_are_one_line(typed, tmp_path, arguments, text):
    (tmp_path / "file").touch()
    done = typed(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith((".\n", "?\n"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nobody_reads_the_help():
    reading, writing = os.pipe()
    os.close(reading)
    program = "import keras_advdef_command as c; c.main()"
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-c", program, "--help"],
            env={"PYTHONPATH": str(ROOT)},
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.fixture
def invoke():
    app = typer.Typer(cls=OneLineGroup, add_completion=False)

    @app.command()
    def answer(code: int) -> None:
        """Exits, or refuses."""
        if code < 0:
            raise refusal("CODE", "positive", str(code))
        if code > 99:
            raise ZeroDivisionError
        raise typer.Exit(code)

    @app.command()
    def other() -> None:
        """Does nothing."""

    return lambda *typed, **options: CliRunner().invoke(app, typed, **options)


class TestOneLineGroup:
    @pytest.mark.parametrize("code", [0, 1, 70])
    def test_codes_pass(self, invoke, code):
        result = invoke("answer", str(code))
        assert (result.exit_code, result.stderr) == (code, "")

    def test_success(self, invoke):
        assert invoke("other").exit_code == 0

    def test_refusals(self, invoke):
        result = invoke("answer", "--", "-3")
        assert result.exit_code == 2
        sentence = (
            "`keras-advdef` expects `CODE` to be positive. Received: CODE='-3'.\n"
        )
        assert result.stderr == sentence

    def test_defects_pass(self, invoke):
        assert isinstance(invoke("answer", "100").exception, ZeroDivisionError)

    def test_refusals_pass_where_the_caller_wants_errors(self, invoke):
        result = invoke("answer", "--", "-3", standalone_mode=False)
        assert "expects `CODE`" in str(result.exception)

    @pytest.mark.parametrize("typed", ["--\x1b[2J", "--a\nb"])
    def test_commands_for_the_terminal_are_not_printed(self, invoke, typed):
        result = invoke("other", typed)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert result.stderr[:-1].isprintable()

    def test_no_command_shows_the_help(self, invoke):
        result = invoke()
        assert result.exit_code == 2
        assert "Does nothing." in result.stdout
        assert result.stderr == ""
