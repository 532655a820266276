"""The commands, run in this process: what fails is one line and an exit code."""

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_advdef.cli.demo import demo
from keras_advdef_command.app import app


@pytest.fixture
def invoke():
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


class TestDemo:
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
        assert "good.npz' is a file. Choose another" in result.stderr

    def test_interrupt(self, invoke, monkeypatch, tmp_path):
        def interrupt(*given, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(demo, "_train", interrupt)
        output = tmp_path / "out"
        result = invoke("demo", "--output", str(output))
        assert result.exit_code == 130
        resumes = "Interrupted; run the same command again to continue.\n"
        assert result.stderr == resumes
        assert not output.exists()


class TestDefences:
    def test_prints(self, invoke):
        result = invoke("defences", "random-noise")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("RandomNoise: ")
