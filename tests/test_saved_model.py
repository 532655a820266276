"""Exported models keep their defence without this package installed."""

import keras
import numpy as np
import pytest

from tests.support.cases import LAYERS, made
from tests.support.fresh_process import run_fresh
from tests.support.nets import small_net

SERVE = """
import json, pathlib, sys
sys.modules["keras_advdef"] = None
import numpy as np, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
images = np.load(folder / "images.npy", allow_pickle=False)
served = {}
for path in sorted(folder.glob("model_*")):
    model = tf.saved_model.load(str(path))
    jitted = tf.function(model.serve, jit_compile=True)
    calls = [model.serve(images), model.serve(images), jitted(images), jitted(images)]
    served[path.name] = [call.numpy().tolist() for call in calls]
print(json.dumps(served))
"""


@pytest.mark.slow
def test_every_layer_serves_without_the_package(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    models = {}
    for index, (cls, arguments) in enumerate(LAYERS):
        net = small_net(front=[made(cls, arguments, images)])
        name = f"model_{index}"
        net.export(tmp_path / name, verbose=False)
        models[name] = net
    first, second = (run_fresh(SERVE, tmp_path) for _ in range(2))
    for name, net in models.items():
        calls = np.array([*first[name], *second[name]])
        expected = net(images)
        if net.layers[0].draws:
            # Eight draws in two processes, with and without XLA: all different.
            assert len({call.tobytes() for call in calls}) == len(calls)
            spread = np.abs(calls - calls.mean(axis=0)).max()
            assert np.abs(calls.mean(axis=0) - expected).max() < 5 * spread
        else:
            for call in calls:
                np.testing.assert_allclose(call, expected, atol=1e-5)


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_keras_file_continues_the_draws(cls, arguments, images, tmp_path):
    net = small_net(front=[made(cls, arguments, images)])
    net(images)
    net.save(tmp_path / "net.keras")
    copy = keras.models.load_model(tmp_path / "net.keras", safe_mode=True)
    for _ in range(2):
        np.testing.assert_array_equal(net(images), copy(images))
