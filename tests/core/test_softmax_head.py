import keras
import numpy as np
import pytest

from keras_advdef.core.softmax_head import without_softmax


def _models():
    def dense(**kwargs):
        return [keras.Input((4,)), keras.layers.Dense(3, **kwargs)]

    inner = keras.Sequential(dense(activation="softmax"))
    inputs = keras.Input((4,))
    return {
        "fused": inner,
        "layer": keras.Sequential([*dense(), keras.layers.Softmax()]),
        "activation": keras.Sequential([*dense(), keras.layers.Activation("softmax")]),
        "operation": keras.Model(
            inputs, keras.ops.softmax(keras.layers.Dense(3)(inputs))
        ),
        "nested": keras.Sequential([keras.Input((4,)), inner]),
    }


@pytest.mark.parametrize(
    "kind", ["fused", "layer", "activation", "operation", "nested"]
)
def test_softmax_of_what_comes_back_is_the_model(kind):
    model = _models()[kind]
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    logits = without_softmax(model)
    np.testing.assert_allclose(keras.ops.softmax(logits(x)), model(x), atol=1e-6)
    assert np.abs(np.sum(logits(x), axis=-1) - 1).max() > 1e-3
    assert logits.trainable_variables[0] is model.trainable_variables[0]


def test_a_model_without_softmax_is_left_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    assert without_softmax(model) is None
