import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers._weight_estimators import (
    ESTIMATORS,
    LinearMap,
    NormalWeights,
    posterior_mean,
)

DENSE = LinearMap(tf.matmul, -1)
CONVOLUTION = LinearMap(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"), -1)
# Four outputs with different weights, and the number of independent copies of each.
OUTPUTS, COPIES = 4, 50_000


def constant(value):
    return tf.constant(value, tf.float32)


def weights(shape, copies, seed=0):
    """Means and standard deviations that repeat along the last axis."""
    generator = np.random.default_rng(seed)
    mean = generator.normal(0.0, 1.0, shape)
    stddev = generator.uniform(0.1, 0.6, shape)
    repeated = [constant(np.repeat(each, copies, axis=-1)) for each in (mean, stddev)]
    return mean, stddev, NormalWeights(*repeated)


def draws_of_dense(estimator, inputs, *, bias=None, seed=3):
    """Returns outputs of shape `(batch, OUTPUTS, COPIES)` and their expected values."""
    mean, stddev, kernel = weights((inputs.shape[1], OUTPUTS), COPIES)
    found = ESTIMATORS[estimator](
        DENSE, constant(inputs), kernel=kernel, bias=bias, key=make_key(seed)
    )
    found = found.numpy().reshape(len(inputs), OUTPUTS, COPIES)
    return found, inputs @ mean, inputs**2 @ stddev**2


def check_moments(found, mean, variance):
    """Checks each position within 4 standard errors, and all together within 1 %."""
    count = found.shape[-1]
    errors = (found.mean(axis=-1) - mean) / np.sqrt(variance)
    assert np.abs(errors).max() < 4 / np.sqrt(count)
    ratios = found.var(axis=-1) / variance
    assert np.abs(ratios - 1).max() < 4 * np.sqrt(2 / count)
    assert ratios.mean() == pytest.approx(1.0, abs=0.01)


@pytest.fixture
def inputs():
    return np.random.default_rng(1).normal(0, 1, (2, 5))


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestEveryEstimator:
    def test_has_the_moments_of_the_posterior(self, estimator, inputs):
        check_moments(*draws_of_dense(estimator, inputs))

    def test_every_output_is_normal(self, estimator, inputs):
        found, mean, variance = draws_of_dense(estimator, inputs)
        scaled = (found[0, 1] - mean[0, 1]) / np.sqrt(variance[0, 1])
        assert stats.kstest(scaled, "norm").pvalue > 1e-3

    def test_bias_adds_its_variance(self, estimator, inputs):
        mean, stddev, bias = weights((OUTPUTS,), COPIES, seed=5)
        found, kernel_mean, variance = draws_of_dense(estimator, inputs, bias=bias)
        check_moments(found, kernel_mean + mean, variance + stddev**2)

    def test_exact_bias_adds_no_variance(self, estimator, inputs):
        mean, _, bias = weights((OUTPUTS,), COPIES, seed=5)
        bias = NormalWeights(bias.mean, None)
        found, kernel_mean, variance = draws_of_dense(estimator, inputs, bias=bias)
        check_moments(found, kernel_mean + mean, variance)

    def test_convolution_at_every_place(self, estimator):
        copies = 20_000
        images = np.random.default_rng(2).normal(0, 1, (1, 2, 3, 2))
        mean, stddev, kernel = weights((3, 3, 2, 1), copies)
        found = ESTIMATORS[estimator](
            CONVOLUTION, constant(images), kernel=kernel, bias=None, key=make_key(1)
        )
        wanted = [
            CONVOLUTION.apply(constant(image), constant(each)).numpy()[..., 0]
            for image, each in ((images, mean), (images**2, stddev**2))
        ]
        check_moments(found.numpy(), *wanted)

    def test_kernel_and_bias_are_drawn_apart(self, estimator):
        _, _, kernel = weights((1, 1), COPIES)
        zero = NormalWeights(0.0 * kernel.mean, tf.ones_like(kernel.stddev))
        bias = NormalWeights(zero.mean[0], zero.stddev[0])
        found = ESTIMATORS[estimator](
            DENSE, tf.ones((1, 1)), kernel=zero, bias=bias, key=make_key(3)
        )
        # If the draws were equal, the variance would be 4 instead of 2.
        assert np.var(found) == pytest.approx(2.0, rel=0.03)

    def test_no_deviation_is_the_mean(self, estimator, inputs):
        _, _, kernel = weights((5, 3), 1)
        kernel = NormalWeights(kernel.mean, tf.fill(kernel.mean.shape, 1e-12))
        options = {"kernel": kernel, "bias": None}
        found = ESTIMATORS[estimator](
            DENSE, constant(inputs), **options, key=make_key(0)
        )
        wanted = posterior_mean(DENSE, constant(inputs), **options)
        np.testing.assert_allclose(found, wanted, atol=1e-6)

    def test_gradients_are_finite_where_nothing_varies(self, estimator):
        _, _, kernel = weights((5, 3), 1)
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as tape:
                zeros = tf.zeros((2, 5))
                tape.watch(zeros)
                found = ESTIMATORS[estimator](
                    DENSE, zeros, kernel=kernel, bias=None, key=make_key(0)
                )
            slope = tape.gradient(found, zeros)
        for each in (slope, *outer.gradient(slope, kernel)):
            assert np.isfinite(each).all()

    def test_gradients_reach_means_and_deviations(self, estimator, inputs):
        _, _, kernel = weights((5, 3), 1)
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            found = ESTIMATORS[estimator](
                DENSE, constant(inputs), kernel=kernel, bias=None, key=make_key(0)
            )
        mean, stddev = tape.gradient(found, kernel)
        # The output is linear in the mean; its slope in the deviation is the noise.
        wanted = np.repeat(inputs.sum(axis=0)[:, None], 3, axis=1)
        np.testing.assert_allclose(mean, wanted, rtol=1e-5)
        noise = found - posterior_mean(
            DENSE, constant(inputs), kernel=kernel, bias=None
        )
        total = np.sum(kernel.stddev * stddev, axis=0)
        np.testing.assert_allclose(total, np.sum(noise, axis=0), rtol=1e-4, atol=1e-5)

    def test_squares_do_not_overflow_float16(self, estimator):
        _, _, kernel = weights((4, 3), 1)
        inputs = tf.fill((2, 4), tf.constant(1000.0, tf.float16))
        found = ESTIMATORS[estimator](
            DENSE, inputs, kernel=kernel, bias=None, key=make_key(0)
        )
        assert found.dtype == "float16"
        assert np.isfinite(found).all()


class TestWhatABatchShares:
    @pytest.fixture
    def twins(self):
        return np.ones((2, 5))

    def test_one_draw_of_the_weights(self, twins):
        found, _, _ = draws_of_dense("reparameterization", twins)
        np.testing.assert_array_equal(found[0], found[1])

    @pytest.mark.parametrize("estimator", ["flipout", "local_reparameterization"])
    def test_nothing(self, estimator, twins):
        found, mean, _ = draws_of_dense(estimator, twins)
        noise = (found - mean[..., None]).reshape(2, -1)
        # The standard error is 1 / sqrt(2e5).
        assert abs(np.corrcoef(noise)[0, 1]) < 0.01

    def test_the_size_of_a_deviation_in_flipout(self):
        found, mean, _ = draws_of_dense("flipout", np.ones((2, 1)))
        noise = found - mean[..., None]
        np.testing.assert_allclose(*np.abs(noise), atol=1e-5)

    def test_a_draw_at_all_places_of_an_image(self):
        images = tf.ones((1, 2, 2, 3))
        _, _, kernel = weights((1, 1, 3, 2), 1)
        point = LinearMap(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"), -1)

        def spread(estimator):
            options = {"kernel": kernel, "bias": None, "key": make_key(0)}
            found = ESTIMATORS[estimator](point, images, **options)
            return np.ptp(found, axis=(1, 2)).max()

        assert spread("reparameterization") == pytest.approx(0.0, abs=1e-6)
        assert spread("flipout") == pytest.approx(0.0, abs=1e-6)
        assert spread("local_reparameterization") > 0.1


class TestSigns:
    def test_are_plus_and_minus_one_equally_often(self):
        signs = DENSE.signs(make_key(2), tf.zeros((100, 1000))).numpy()
        # A known error elsewhere draws from [-1, 3): second moment 7/3.
        np.testing.assert_array_equal(signs**2, 1.0)
        assert abs(signs.mean()) < 4 / np.sqrt(signs.size)
        assert np.abs(np.corrcoef(signs[:20])[np.triu_indices(20, 1)]).max() < 0.15

    @pytest.mark.parametrize(("axis", "shape"), [(-1, (5, 1, 1, 3)), (1, (5, 4, 1, 1))])
    def test_are_one_for_each_example_and_channel(self, axis, shape):
        linear = LinearMap(tf.matmul, axis)
        signs = linear.signs(make_key(2), tf.zeros((5, 4, 2, 3), tf.float16))
        assert tuple(signs.shape) == shape
        assert signs.dtype == "float16"


def test_bias_of_the_first_channels():
    linear = LinearMap(lambda x, kernel: x * kernel, 1)
    found = linear(tf.zeros((2, 3, 4, 4)), tf.ones(()), constant([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found[0, :, 1, 2], [1.0, 2.0, 3.0])
