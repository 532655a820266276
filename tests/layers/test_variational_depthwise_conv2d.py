import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import card_of
from keras_advdef.layers import VariationalDepthwiseConv2D
from keras_advdef.layers._weight_estimators import ESTIMATORS

CONTRACT = [{"kernel_size": (3, 3), "estimator": "flipout", "kl_weight": 0.25}]

OPTIONS = [
    {},
    {"strides": 2, "padding": "same", "depth_multiplier": 3},
    {"dilation_rate": 2, "activation": "relu"},
]


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    return generator.normal(0, 1, (3, 7, 6, 4)).astype("float32")


class TestVariationalDepthwiseConv2D:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_means_as_keras(self, options, inputs):
        layer = VariationalDepthwiseConv2D(3, deterministic=True, **options)
        found = layer(inputs)
        wanted = keras.layers.DepthwiseConv2D(3, **options)
        wanted.build(inputs.shape)
        wanted.kernel.assign(layer.kernel)
        np.testing.assert_allclose(found, wanted(inputs), atol=1e-6)
        assert layer.compute_output_shape(inputs.shape) == found.shape

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_moments(self, estimator):
        channels, copies = 2, 10_000
        images = np.random.default_rng(1).normal(0, 1, (1, 3, 3, channels))
        images = images.astype("float32")
        options = {"depthwise_initializer": "ones", "padding": "same"}
        layer = VariationalDepthwiseConv2D(
            3,
            depth_multiplier=copies,
            estimator=estimator,
            posterior_initializer=0.3,
            **options,
        )
        found = layer(images).numpy().reshape(1, 3, 3, channels, copies)
        plain = keras.layers.DepthwiseConv2D(3, **options)
        mean, deviations = plain(images), 0.3 * np.sqrt(plain(images**2))
        errors = (found.mean(axis=-1) - mean) / deviations
        assert np.abs(errors).max() < 4 / np.sqrt(copies)
        np.testing.assert_allclose(found.std(axis=-1), deviations, rtol=0.03)

    def test_divergence_of_kernel_and_bias(self, inputs):
        layer = VariationalDepthwiseConv2D(
            3,
            depth_multiplier=2,
            prior_stddev=0.1,
            posterior_initializer=0.05,
            variational_bias=True,
            depthwise_initializer="zeros",
        )
        layer(inputs)
        # 9 x 4 x 2 weights and 8 of the bias, each 0.318147 nats.
        wanted = pytest.approx(80 * 0.318147, rel=1e-5)
        assert float(layer.kl_divergence()) == wanted

    def test_channels_first(self, inputs):
        options = {"estimator": "flipout", "seed": 1}
        last = VariationalDepthwiseConv2D(3, **options)
        first = VariationalDepthwiseConv2D(3, data_format="channels_first", **options)
        turned = tf.transpose(inputs, (0, 3, 1, 2))
        last.build(inputs.shape)
        first.build(turned.shape)
        first.kernel.assign(last.kernel)
        # Without XLA, TensorFlow has no such convolution on a CPU.
        found = tf.function(first, jit_compile=True)(turned)
        assert first.compute_output_shape(turned.shape) == found.shape
        found = tf.transpose(found, (0, 2, 3, 1))
        np.testing.assert_allclose(found, last(inputs), atol=1e-4)

    def test_keras_file(self, inputs, tmp_path):
        layer = VariationalDepthwiseConv2D(3, variational_bias=True, kl_weight=0.5)
        model = keras.Sequential([keras.Input((7, 6, 4)), layer])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(inputs), model(inputs))
        assert loaded.layers[0].get_config() == layer.get_config()

    def test_has_a_card(self):
        assert card_of(VariationalDepthwiseConv2D(3)).eot_samples == 20


def test_strides_may_stand_second():
    assert VariationalDepthwiseConv2D(3, 2).strides == (2, 2)
