from pathlib import Path

import pytest
from typer.testing import CliRunner

from keras_advdef import __version__
from keras_advdef.cli import commands
from keras_advdef_command import app as app_module
from keras_advdef_command.app import app


@pytest.fixture
def invoke():
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


class TestApp:
    def test_version(self, invoke):
        result = invoke("--version")
        assert result.exit_code == 0
        assert result.stdout.strip() == __version__

    @pytest.mark.parametrize(
        ("command", "texts"),
        [
            ((), ("1 for an accuracy below", "70 for an internal", "143 for SIGTERM")),
            (("evaluate",), ("1 if the accuracy", "143 for SIGTERM", "SavedModel")),
            (("evaluate",), ("code with your rights", "only what you trust")),
        ],
    )
    def test_help_tells_of_codes_and_risks(self, invoke, command, texts):
        # Boxes and columns put other characters between the words.
        words = invoke(*command, "--help").stdout.replace("│", " ").split()
        shown = " ".join(words)
        assert [text for text in texts if text not in shown] == []

    def test_passes_flags_on(self, invoke, monkeypatch):
        calls = []
        monkeypatch.setattr(commands, "run_demo", lambda *given: calls.append(given))
        typed = ("--data", "mnist", "--output", "there", "--epsilon", "8/255")
        assert invoke("demo", *typed, "--epochs", "2", "--seed", "7").exit_code == 0
        [(flags, _)] = calls
        expected = {"data": "mnist", "output": Path("there"), "epsilon": "8/255"}
        assert vars(flags) == {**expected, "epochs": 2, "seed": 7, "verbose": False}

    @pytest.mark.parametrize("verbose", [False, True])
    @pytest.mark.parametrize("command", ["demo", "evaluate", "defences"])
    def test_loads_the_package_as_loud_as_asked(
        self, invoke, monkeypatch, tmp_path, command, verbose
    ):
        calls = []
        monkeypatch.setattr(commands, command, lambda *given, **named: None)
        monkeypatch.setattr(app_module, "load_package", lambda **o: calls.append(o))
        (tmp_path / "net.keras").touch()
        model = str(tmp_path / "net.keras")
        arguments = [model, "--data", "digits", "--epsilon", "0.1"]
        typed = arguments if command == "evaluate" else []
        flags = ["--verbose"] if verbose else []
        assert invoke(command, *typed, *flags).exit_code == 0
        assert calls == [{"verbose": verbose}]

    def test_loads_nothing_for_refused_arguments(self, invoke, monkeypatch):
        monkeypatch.setattr(app_module, "load_package", lambda **o: 1 / 0)
        for typed in (["demo", "--epsilon", "8"], ["defences", "Magic"]):
            assert invoke(*typed).exit_code == 2

    @pytest.mark.parametrize(
        ("flag", "value"), [("--epsilon", "8"), ("--data", "mnits")]
    )
    def test_bad_input(self, invoke, tmp_path, flag, value):
        output = tmp_path / "out"
        result = invoke("demo", "--output", str(output), flag, value)
        assert result.exit_code == 2
        assert result.stderr.startswith("`keras-advdef` expects")
        assert f"{flag}='{value}'" in result.stderr
        assert result.stderr.count("\n") == 1
        assert not output.exists()
