"""Fit, attack, export, mixed precision and XLA on a GPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.layers import BitDepthReduction, RandomNoise, RandomResizePad
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not tf.config.list_physical_devices("GPU"),
        reason="TensorFlow finds no GPU on this machine",
    ),
]


def _defended_net() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            BitDepthReduction(4),
            RandomResizePad(10, 8),
            RandomNoise(0.02),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, dtype="float32"),
        ]
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("jit_compile", ["auto", False])
def test_fit_attack_export(policy, jit_compile, digits, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        net = _defended_net()
    finally:
        keras.config.set_dtype_policy("float32")
    attack = PGD(0.05, steps=3)
    model = AdversarialTrainingModel(net, attack, validation_attack=attack)
    model.compile("adam", sparse_loss(), jit_compile=jit_compile)
    data = (digits.x_test, digits.y_test)
    history = model.fit(
        digits.x_train, digits.y_train, validation_data=data, epochs=2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    adversarial = attack.generate(model, *data, seed=0, verbose=0)
    assert np.abs(adversarial - digits.x_test).max() <= 0.05 + 1e-6
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    assert np.any(served.serve(digits.x_test) != served.serve(digits.x_test))


def test_same_draws_as_on_the_cpu():
    from keras_advdef.core.random_numbers import make_key, uniform

    results = []
    for device in ("CPU:0", "GPU:0"):
        with tf.device(device):
            results.append(uniform(make_key(3), [100]).numpy())
    np.testing.assert_array_equal(*results)
