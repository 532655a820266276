import io

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_advdef.cli.harden import run_harden
from keras_advdef.recipes._harden import run
from keras_advdef_command.harden_flags import HardenFlags


@pytest.fixture
def flags(tmp_path, npz):
    """Flags for a small net on the images of `npz`."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(tmp_path / "net.keras")
    given = {"model": str(tmp_path / "net.keras"), "data": str(npz), "epochs": 1}
    return lambda **changes: HardenFlags(
        **{**given, "epsilon": "0.05", "output": tmp_path / "out", **changes}
    )


def test_hardens_and_prints_both_numbers(flags, tmp_path):
    stream = io.StringIO()
    hardened = run_harden(flags(), Console(file=stream, width=100))
    text = stream.getvalue()
    assert "Plan: 1 epochs" in text
    assert hardened.after.headline.split(":")[0] in " ".join(text.split())
    for report in (hardened.before, hardened.after):
        assert f"{100 * report.clean['accuracy']:.1f} %" in text
    loaded = keras.saving.load_model(tmp_path / "out" / "model.keras")
    for one, other in zip(
        loaded.get_weights(), hardened.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_says_the_least_minutes(flags, monkeypatch, tmp_path):
    class Report:
        pass

    monkeypatch.setattr(run, "evaluate_robustness", lambda *given, **named: Report())
    with pytest.raises(ValueError, match="`minutes` to be enough for one epoch"):
        run_harden(flags(epochs=None, minutes="1e-6"), Console(file=io.StringIO()))


def test_refuses_what_is_no_model(flags, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match="`keras-advdef` expects `MODEL` to be"):
        run_harden(
            flags(model=str(tmp_path / "text.keras")), Console(file=io.StringIO())
        )
