import keras
import numpy as np
import pytest

from keras_advdef.core.cards import card_of
from keras_advdef.layers import VariationalDense
from keras_advdef.layers._weight_estimators import ESTIMATORS

# The draws of "reparameterization" are shared by a batch: another contract.
CONTRACT = [{"units": 1, "estimator": "flipout", "kl_weight": 0.25}]


def quiet(units, **arguments):
    return VariationalDense(units, deterministic=True, **arguments)


class TestVariationalDense:
    @pytest.mark.parametrize("shape", [(2, 4), (2, 7, 4), (2, 3, 5, 4)])
    def test_means_as_keras(self, shape):
        inputs = np.random.default_rng(0).normal(0, 1, shape).astype("float32")
        layer = quiet(3, activation="relu", bias_initializer="ones")
        found = layer(inputs)
        wanted = keras.layers.Dense(3, activation="relu")
        wanted.build(shape)
        wanted.set_weights([layer.kernel, layer.bias])
        np.testing.assert_allclose(found, wanted(inputs), atol=1e-6)
        assert layer.compute_output_shape(shape) == found.shape

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_moments(self, estimator):
        options = {"posterior_initializer": 0.3, "kernel_initializer": "ones"}
        layer = VariationalDense(20_000, estimator=estimator, **options)
        inputs = np.array([[[1.0, 2.0], [0.0, -1.0]]], "float32")
        found = layer(inputs).numpy()
        # Four standard errors of 20 000 draws with standard deviations 0.3 |x|.
        deviations = 0.3 * np.sqrt(np.sum(inputs**2, axis=-1))
        errors = (found.mean(axis=-1) - inputs.sum(axis=-1)) / deviations
        assert np.abs(errors).max() < 4 / np.sqrt(20_000)
        np.testing.assert_allclose(found.std(axis=-1), deviations, rtol=0.02)

    def test_bias_varies_on_request(self):
        inputs = np.zeros((1, 4), "float32")
        assert not np.any(VariationalDense(3)(inputs))
        options = {"variational_bias": True, "posterior_initializer": 0.3}
        layer = VariationalDense(20_000, bias_initializer="ones", **options)
        assert np.mean(layer(inputs)) == pytest.approx(1.0, abs=0.01)
        assert np.std(layer(inputs)) == pytest.approx(0.3, rel=0.02)

    def test_without_bias(self):
        layer = VariationalDense(3, use_bias=False, variational_bias=True)
        assert layer(np.zeros((1, 4))).shape == (1, 3)
        assert layer.bias_rho is None
        assert len(layer.posteriors()) == 1

    def test_flipout_flips_for_each_example(self):
        layer = VariationalDense(4, estimator="flipout", kernel_initializer="zeros")
        found = layer(np.ones((6, 5, 3), "float32")).numpy()
        # One sign for all positions of an example, another for the next example.
        np.testing.assert_allclose(found, found[:, :1] * np.ones((1, 5, 1)), atol=1e-6)
        assert len(np.unique(found[:, 0].round(5), axis=0)) > 1

    def test_unknown_batch_and_length(self):
        layer = VariationalDense(3, estimator="flipout")
        model = keras.Sequential([keras.Input((None, 4)), layer])
        assert model.predict(np.zeros((2, 7, 4)), verbose=0).shape == (2, 7, 3)

    def test_positional_arguments_as_keras(self):
        layer = VariationalDense(3, "relu", False)
        assert layer.units == 3
        assert layer.activation is keras.activations.relu
        assert not layer.use_bias
        assert "randomization" in card_of(layer).category

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        ("estimator", "peer"),
        [
            ("reparameterization", "DenseReparameterization"),
            ("flipout", "DenseFlipout"),
            ("local_reparameterization", "DenseLocalReparameterization"),
        ],
    )
    def test_moments_and_divergence_of_tensorflow_probability(self, estimator, peer):
        import tensorflow_probability as tfp

        mean = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
        mean = np.repeat(mean, 20_000, axis=1)
        normal = tfp.distributions.Normal(mean, np.full_like(mean, 0.3))
        theirs = getattr(tfp.layers, peer)(
            mean.shape[1],
            bias_posterior_fn=None,
            kernel_posterior_fn=lambda *_: tfp.distributions.Independent(normal, 2),
        )
        ours = VariationalDense(
            mean.shape[1],
            estimator=estimator,
            posterior_initializer=0.3,
            kl_weight=1.0,
        )
        ours.build((3, 5))
        ours.kernel.assign(mean)
        inputs = np.random.default_rng(1).normal(size=(3, 5)).astype("float32")
        one, other = (each(inputs).numpy().reshape(3, 2, -1) for each in (ours, theirs))
        np.testing.assert_allclose(one.mean(-1), other.mean(-1), atol=0.06)
        np.testing.assert_allclose(one.std(-1), other.std(-1), rtol=0.03)
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)
