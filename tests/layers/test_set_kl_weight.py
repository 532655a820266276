import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers import RandomNoise, VariationalDense, set_kl_weight
from keras_advdef.layers.set_kl_weight import variational_layers
from keras_advdef.models import RandomSelfEnsemble
from tests.support.nets import sparse_loss


@pytest.fixture
def model():
    inner = keras.Sequential([keras.Input((3,)), VariationalDense(3, name="inner")])
    layers = [VariationalDense(3, name="outer"), RandomNoise(0.1), inner]
    return keras.Sequential([keras.Input((4,)), *layers])


class TestSetKLWeight:
    @pytest.mark.parametrize(
        "images",
        [50, np.int64(50), np.zeros((50, 4)), tf.data.Dataset.range(50)],
        ids=["number", "numpy number", "array", "data set"],
    )
    def test_is_one_over_the_number_of_images(self, images, model):
        set_kl_weight(model, images)
        for layer in variational_layers("test", model):
            assert layer.kl_weight == pytest.approx(1 / 50)
        weighted = sum(
            float(layer.kl_divergence()) / 50
            for layer in variational_layers("test", model)
        )
        assert float(sum(model.losses)) == pytest.approx(weighted, rel=1e-5)

    def test_of_a_model_within_a_model(self):
        inner = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
        inner.add(VariationalDense(3))
        model = RandomSelfEnsemble(inner)
        set_kl_weight(model, 10)
        assert inner.layers[-1].kl_weight == pytest.approx(0.1)

    def test_between_two_calls_of_fit(self, model):
        inputs, labels = np.zeros((6, 4), "float32"), np.arange(6) % 3
        set_kl_weight(model, inputs)
        model.compile(keras.optimizers.SGD(0.0), sparse_loss())
        before = model.fit(inputs, labels, verbose=0).history["loss"][0]
        set_kl_weight(model, 3)
        after = model.fit(inputs, labels, verbose=0).history["loss"][0]
        # The cross-entropy of noise moves far less than the divergence.
        total = 3 * float(sum(model.losses))
        assert after - before == pytest.approx(total / 6, rel=0.1)

    @pytest.mark.parametrize("images", [0, -5, 2.5, [], True, None])
    def test_rejects_numbers(self, images, model):
        with pytest.raises(ValueError, match="`images` to be an integer of at least 1"):
            set_kl_weight(model, images)

    def test_rejects_models_without_variational_layers(self, net):
        with pytest.raises(ValueError, match="one with a variational layer"):
            set_kl_weight(net, 50)


def test_layers_are_found_at_any_depth(model):
    found = variational_layers("test", model)
    assert {layer.name for layer in found} == {"outer", "inner"}
