import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_advdef.cli.demo import run_demo
from keras_advdef.cli.demo_settings import DemoSettings


@pytest.fixture
def run(tmp_path, npz):
    """Runs the demo on two tiny classes; returns the run, the folder and the text."""
    stream = io.StringIO()
    output = tmp_path / "out"
    settings = DemoSettings.parse(
        data=str(npz), output=output, epsilon="0.05", epochs=2, seed=0
    )
    result = run_demo(settings, Console(file=stream, width=100))
    return result, output, stream.getvalue()


class TestRunDemo:
    def test_writes_what_it_says(self, run, arrays):
        result, output, text = run
        names = sorted(path.name for path in output.iterdir())
        assert names == ["model.keras", "report.json", "report.png", "served"]
        assert f"Written to {output}: " in text
        assert "under PGD-40, epsilon 0.05" in text
        assert str(result.adversarial("defended")) in text
        assert "one attack" in text
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
