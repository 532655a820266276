from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_advdef import __version__
from keras_advdef.cli import app as app_module
from keras_advdef.cli.app import app
from keras_advdef.cli.demo import demo


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
        monkeypatch.setattr(app_module, "run_demo", lambda *given: calls.append(given))
        typed = ("--data", "mnist", "--output", "there", "--epsilon", "8/255")
        assert invoke("demo", *typed, "--epochs", "2", "--seed", "7").exit_code == 0
        [(flags, _)] = calls
        expected = {"data": "mnist", "output": Path("there"), "epsilon": "8/255"}
        assert vars(flags) == {**expected, "epochs": 2, "seed": 7}

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

    def test_bad_images(self, invoke, tmp_path, arrays):
        images = arrays["x_train"] / 255
        images[3, 0, 0] = np.nan
        path = tmp_path / "data.npz"
        np.savez(path, **{**arrays, "x_train": images})
        output = tmp_path / "out"
        result = invoke("demo", "--output", str(output), "--data", str(path))
        assert result.exit_code == 2
        assert "image 3 holds NaN" in result.stderr
        assert not output.exists()

    def test_output_below_a_file(self, invoke, npz):
        result = invoke("demo", "--data", str(npz), "--output", str(npz / "out"))
        assert result.exit_code == 2
        assert "Not a directory" in result.stderr

    def test_interrupt(self, invoke, monkeypatch, tmp_path):
        def interrupt(*given, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(demo, "train_classifier", interrupt)
        output = tmp_path / "out"
        result = invoke("demo", "--output", str(output))
        assert result.exit_code == 130
        assert result.stderr == "Interrupted; nothing was written.\n"
        assert not output.exists()
