import subprocess
import sys

import pytest

from keras_advdef.cli import main


def _exit_code(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["keras-advdef", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


class TestMain:
    @pytest.mark.parametrize("package", ["typer", "rich", "sklearn"])
    def test_without_the_extra(self, monkeypatch, capsys, tmp_path, package):
        for name in list(sys.modules):
            if (
                name.startswith("keras_advdef.cli.")
                or name.partition(".")[0] == package
            ):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        output = str(tmp_path / "out")
        assert _exit_code(monkeypatch, "demo", "--output", output) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"keras-advdef needs `{package}`")
        assert 'pip install -e ".[all]"' in error
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_other_missing_modules_are_defects(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "keras_advdef.cli.app", raising=False)
        monkeypatch.setitem(sys.modules, "keras_advdef.cli._exit_on_error", None)
        monkeypatch.setattr(sys, "argv", ["keras-advdef", "demo"])
        with pytest.raises(ModuleNotFoundError, match="exit_on_error"):
            main()

    def test_help(self, monkeypatch, capsys):
        assert _exit_code(monkeypatch, "demo", "--help") == 0
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
    def test_wrong_usage(self, monkeypatch, capsys, arguments):
        assert _exit_code(monkeypatch, *arguments) == 2
        assert "Traceback" not in capsys.readouterr().err

    def test_bad_input_in_a_process_of_its_own(self, tmp_path):
        program = "from keras_advdef.cli import main; main()"
        arguments = ["demo", "--data", "nowhere.npz", "--output", str(tmp_path / "out")]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2
        assert "--data='nowhere.npz'" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_importing_the_package_is_light():
    # Keras itself imports matplotlib and scikit-learn where they are installed.
    program = (
        "import sys, keras; before = set(sys.modules); import keras_advdef; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(new & {'matplotlib', 'rich', 'sklearn', 'tensorflow_probability', "
        "'typer'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
