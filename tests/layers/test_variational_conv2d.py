import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import card_of
from keras_advdef.layers import VariationalConv2D
from keras_advdef.layers._weight_estimators import ESTIMATORS

CONTRACT = [
    {
        "filters": 1,
        "kernel_size": (3, 3),
        "padding": "same",
        "estimator": "local_reparameterization",
        "variational_bias": True,
        "kl_weight": 0.25,
    }
]

OPTIONS = [
    {},
    {"strides": 2, "padding": "same"},
    {"dilation_rate": 2, "use_bias": False},
    {"groups": 2, "activation": "relu"},
]


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    return generator.normal(0, 1, (3, 7, 6, 4)).astype("float32")


class TestVariationalConv2D:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_means_as_keras(self, options, inputs):
        layer = VariationalConv2D(6, 3, deterministic=True, **options)
        found = layer(inputs)
        wanted = keras.layers.Conv2D(6, 3, **options)
        wanted.build(inputs.shape)
        wanted.kernel.assign(layer.kernel)
        np.testing.assert_allclose(found, wanted(inputs), atol=1e-6)
        assert layer.compute_output_shape(inputs.shape) == found.shape

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    @pytest.mark.parametrize("options", [{"strides": 2, "padding": "same"}])
    def test_moments(self, estimator, options):
        count = 20_000
        images = np.random.default_rng(1).normal(0, 1, (1, 3, 3, 2)).astype("float32")
        layer = VariationalConv2D(
            count,
            3,
            estimator=estimator,
            posterior_initializer=0.3,
            kernel_initializer="ones",
            **options,
        )
        found = layer(images).numpy()
        plain = keras.layers.Conv2D(1, 3, kernel_initializer="ones", **options)
        mean = plain(images).numpy()[..., 0]
        deviations = 0.3 * np.sqrt(plain(images**2).numpy()[..., 0])
        errors = (found.mean(axis=-1) - mean) / deviations
        assert np.abs(errors).max() < 4 / np.sqrt(count)
        np.testing.assert_allclose(found.std(axis=-1), deviations, rtol=0.02)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_channels_first(self, estimator, inputs):
        options = {"estimator": estimator, "variational_bias": True, "seed": 1}
        last = VariationalConv2D(6, 3, **options)
        first = VariationalConv2D(6, 3, data_format="channels_first", **options)
        turned = tf.transpose(inputs, (0, 3, 1, 2))
        last.build(inputs.shape)
        first.build(turned.shape)
        first.kernel.assign(last.kernel)
        # Without XLA, TensorFlow has no such convolution on a CPU.
        found = tf.function(first, jit_compile=True)(turned)
        wanted = last(inputs)
        assert first.compute_output_shape(turned.shape) == found.shape
        if estimator == "local_reparameterization":
            # Here the draws run along the outputs, in another order.
            assert found.shape == (3, 6, 5, 4)
        else:
            found = tf.transpose(found, (0, 2, 3, 1))
            np.testing.assert_allclose(found, wanted, atol=1e-5)

    def test_flipout_flips_for_each_example(self, inputs):
        layer = VariationalConv2D(4, 1, estimator="flipout", kernel_initializer="zeros")
        found = layer(np.ones_like(inputs)).numpy()
        # One sign for all positions of an example, another for the next example.
        np.testing.assert_allclose(found, found[:, :1, :1] + 0 * found, atol=1e-6)
        assert len(np.unique(found[:, 0, 0].round(5), axis=0)) > 1

    def test_unknown_sizes(self, inputs):
        layer = VariationalConv2D(2, 3, estimator="flipout", variational_bias=True)
        model = keras.Sequential([keras.Input((None, None, 4)), layer])
        assert model.predict(inputs, verbose=0).shape == (3, 5, 4, 2)

    def test_has_a_card(self):
        assert card_of(VariationalConv2D(2, 3)).eot_samples == 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "peer"),
    [
        ("reparameterization", "Convolution2DReparameterization"),
        ("flipout", "Convolution2DFlipout"),
    ],
)
def test_moments_and_divergence_of_tensorflow_probability(estimator, peer):
    import tensorflow_probability as tfp

    mean = np.random.default_rng(0).normal(size=(3, 3, 2, 1)).astype("float32")
    mean = np.repeat(mean, 20_000, axis=-1)
    normal = tfp.distributions.Normal(mean, np.full_like(mean, 0.3))
    theirs = getattr(tfp.layers, peer)(
        20_000,
        3,
        padding="same",
        bias_posterior_fn=None,
        kernel_posterior_fn=lambda *_: tfp.distributions.Independent(normal, 4),
    )
    options = {"posterior_initializer": 0.3, "kl_weight": 1.0, "padding": "same"}
    ours = VariationalConv2D(20_000, 3, estimator=estimator, **options)
    ours.build((2, 3, 3, 2))
    ours.kernel.assign(mean)
    inputs = np.random.default_rng(1).normal(size=(2, 3, 3, 2)).astype("float32")
    one, other = (each(inputs).numpy() for each in (ours, theirs))
    np.testing.assert_allclose(one.mean(-1), other.mean(-1), atol=0.06)
    np.testing.assert_allclose(one.std(-1), other.std(-1), rtol=0.03)
    assert np.mean(one.std(-1) / other.std(-1)) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)


def test_strides_may_stand_third():
    assert VariationalConv2D(2, 3, 2).strides == (2, 2)
