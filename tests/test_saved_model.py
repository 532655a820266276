"""Exported models keep their defence without this package installed."""

import keras
import numpy as np
import pytest

from tests.support.cases import LAYERS, case_id, first_of_each_class, made
from tests.support.fresh_process import run_fresh
from tests.support.nets import small_net

SERVE = """
import json, pathlib, sys
sys.modules["keras_advdef"] = None
import numpy as np, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
images = np.load(folder / "images.npy", allow_pickle=False)
models = [tf.saved_model.load(str(folder / "served")) for _ in range(2)]
functions = [model.serve for model in models]
if "jit" in sys.argv:
    functions.append(tf.function(models[0].serve, jit_compile=True))
calls = [function(images) for function in functions for _ in range(2)]
print(json.dumps([[each.numpy().tolist() for each in call] for call in calls]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "processes"),
    [
        pytest.param(first_of_each_class(LAYERS), [()], id="classes"),
        pytest.param(LAYERS, [("jit",), ()], id="cases", marks=pytest.mark.nightly),
    ],
)
def test_every_layer_serves_without_the_package(cases, processes, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    layers = [made(*case, images) for case in cases]
    inputs = keras.Input(images.shape[1:])
    net = keras.Model(inputs, [layer(inputs) for layer in layers])
    net.export(tmp_path / "served", verbose=False)
    found = [call for modes in processes for call in run_fresh(SERVE, tmp_path, *modes)]
    for layer, expected, *each in zip(layers, net(images), *found, strict=True):
        calls = np.array(each)
        if layer.draws:
            # The draws of all models and processes, also with XLA: all different.
            assert len({call.tobytes() for call in calls}) == len(calls), layer
            spread = np.abs(calls - calls.mean(axis=0)).max()
            assert np.abs(calls.mean(axis=0) - expected).max() < 5 * spread, layer
        else:
            for call in calls:
                np.testing.assert_allclose(
                    call, expected, atol=1e-5, err_msg=layer.name
                )


@pytest.mark.parametrize(("cls", "arguments"), LAYERS, ids=case_id)
def test_keras_file_continues_the_draws(cls, arguments, images, tmp_path):
    net = small_net(front=[made(cls, arguments, images)])
    net(images)
    net.save(tmp_path / "net.keras")
    copy = keras.models.load_model(tmp_path / "net.keras", safe_mode=True)
    for _ in range(2):
        np.testing.assert_array_equal(net(images), copy(images))
