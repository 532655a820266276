import io
import json
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_advdef.cli.demo import demo
from keras_advdef.cli.demo.demo import run_demo
from keras_advdef_command.demo_flags import DemoFlags


@pytest.fixture
def run(tmp_path, npz):
    """Runs the demo on two tiny classes; returns the run, the folder and the text."""
    stream = io.StringIO()
    output = tmp_path / "out"
    flags = DemoFlags(
        data=str(npz), output=output, epsilon="0.05", epochs=2, seed=2**31 - 1
    )
    result = run_demo(flags, Console(file=stream, width=100))
    return result, output, stream.getvalue()


class TestRunDemo:
    def test_writes_what_it_says(self, run, arrays):
        result, output, text = run
        names = sorted(path.name for path in output.iterdir())
        assert names == ["model.keras", "report.json", "report.png", "served"]
        assert f"Written to {output}: " in text
        assert "under PGD-40, epsilon 0.05" in text
        assert str(result.adversarial("defended")) in text
        assert "only one attack" in text
        report = json.loads((output / "report.json").read_text())
        assert report["headline"] == result.headline

        model = keras.saving.load_model(output / "model.keras", safe_mode=True)
        served = tf.saved_model.load(output / "served")
        images = (arrays["x_test"][..., np.newaxis] / 255).astype(np.float32)
        logits = model.predict(images, verbose=0)
        assert logits.shape == (12, 2)
        np.testing.assert_allclose(served.serve(images), logits, atol=1e-5)
        right = int((logits.argmax(axis=-1) == arrays["y_test"]).sum())
        assert right == result.clean("defended").correct

        files = [path for path in output.rglob("*") if path.is_file()]
        needed = demo._bytes_needed(result.dataset)
        assert needed / 8 < sum(path.stat().st_size for path in files) < needed


@pytest.fixture
def write(tmp_path, npz, demo_run, monkeypatch):
    """Runs the demo without training and attacks."""
    net = keras.Sequential([keras.Input((6, 5, 1)), keras.layers.Flatten()])
    monkeypatch.setattr(demo, "_measure", lambda *given, **named: (net, demo_run))
    flags = DemoFlags(
        data=str(npz), output=tmp_path / "out", epsilon=None, epochs=None, seed=0
    )
    return lambda: run_demo(flags, Console(file=io.StringIO()))


def _contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


class TestDisk:
    # What does not fit is the first file, the SavedModel, or the plot.
    @pytest.mark.parametrize("room", [1000, 15_000, 25_000])
    @pytest.mark.parametrize("earlier", [False, True])
    def test_full(self, write, tmp_path, room, earlier):
        if earlier:
            write()
        before = _contents(tmp_path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A program sees the same as on a full disk, except for the words.
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(
                ValueError,
                match=r"`--output` to be a folder.*: File too large|File too",
            ):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert _contents(tmp_path) == before

    def test_too_little_room_is_told_before_the_training(
        self, write, tmp_path, monkeypatch
    ):
        def measure(*given, **named):
            raise AssertionError("trains")

        disk = shutil.disk_usage(tmp_path)._replace(total=2**40, free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
        monkeypatch.setattr(demo, "_measure", measure)
        with pytest.raises(
            ValueError,
            match=r"to be a folder that.* are needed, but only 1 MiB are free\.",
        ):
            write()
        assert not (tmp_path / "out").exists()

    def test_vanished(self, write, tmp_path, monkeypatch):
        def vanish(*given, **named):
            shutil.rmtree(tmp_path / "out")
            return measure(*given, **named)

        measure = demo._measure
        monkeypatch.setattr(demo, "_measure", vanish)
        with pytest.raises(
            ValueError, match=r"`--output` to be a folder that can.*No su"
        ):
            write()
        assert not (tmp_path / "out").exists()
