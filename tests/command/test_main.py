import sys

import pytest

import keras_advdef.cli
import keras_advdef_command
from keras_advdef_command import main


@pytest.fixture
def code(monkeypatch):
    """Runs `main` with arguments in this process; returns its exit code."""
    monkeypatch.setattr(keras_advdef_command, "set_up_process", lambda: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-advdef", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code

    return run


@pytest.fixture
def imports(monkeypatch):
    """Lets the command import itself again, without the given modules."""

    def prepare(*missing):
        ours = ("keras_advdef.cli.", "keras_advdef_command.")
        for name in list(sys.modules):
            if name.startswith(ours) or name.partition(".")[0] in missing:
                monkeypatch.delitem(sys.modules, name)
        # Python looks here first.
        monkeypatch.delattr(keras_advdef.cli, "commands", raising=False)
        for name in missing:
            monkeypatch.setitem(sys.modules, name, None)

    return prepare


class TestMain:
    @pytest.mark.parametrize("package", ["typer", "rich", "sklearn"])
    def test_without_the_extra(self, code, imports, capsys, tmp_path, package):
        imports(package)
        assert code("demo", "--output", str(tmp_path / "out")) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"keras-advdef needs `{package}`")
        assert 'pip install -e ".[all]"' in error
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_other_missing_modules_are_defects(self, code, imports):
        imports("keras_advdef.cli._exit_on_error")
        with pytest.raises(ModuleNotFoundError, match="exit_on_error"):
            code("demo")

    def test_help(self, code, capsys):
        assert code("demo", "--help") == 0
        assert "--epsilon" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            ("dmo",),
            ("demo", "--epochs", "0"),
            ("demo", "--seed", "-1"),
            ("demo", "--seed", str(2**31)),
        ],
    )
    def test_wrong_usage(self, code, capsys, arguments):
        assert code(*arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_bad_input(self, code, capsys, tmp_path):
        assert (
            code("demo", "--data", "nowhere.npz", "--output", str(tmp_path / "a")) == 2
        )
        assert "--data='nowhere.npz'" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
