import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training.wasserstein_gan import gradient_penalty

WEIGHTS = tf.constant(np.random.default_rng(0).normal(size=(3, 5, 2)), tf.float32)


def linear(points):
    return tf.reduce_sum(points * WEIGHTS, axis=[1, 2, 3])


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_linear_critic_in_closed_form(mode):
    # A norm over the rows alone, as in the authors' code, gives something else.
    expected = (float(tf.norm(WEIGHTS)) - 1.0) ** 2

    def run(points):
        return gradient_penalty(linear, points)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    points = tf.constant(np.random.default_rng(1).normal(size=(4, 3, 5, 2)), tf.float32)
    np.testing.assert_allclose(run(points), np.full(4, expected), rtol=1e-5)


def test_each_point_has_its_own_slope():
    points = tf.constant([[[[1.0]]], [[[-3.0]]]])
    found = gradient_penalty(lambda x: tf.reduce_sum(x**2, [1, 2, 3]), points)
    np.testing.assert_allclose(found, [1.0, 25.0])


def test_flat_critics_have_a_finite_gradient():
    slope = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        value = gradient_penalty(
            lambda x: slope * tf.reduce_sum(x, [1, 2, 3]), tf.ones((2, 2, 2, 1))
        )
    np.testing.assert_array_equal(value, [1.0, 1.0])
    assert np.isfinite(tape.gradient(value, slope))


def test_weights_learn_of_it():
    slope = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        value = gradient_penalty(
            lambda x: slope * tf.reduce_sum(x, [1, 2, 3]), tf.ones((1, 2, 2, 1))
        )
    # (2 s - 1)^2 at s = 3.
    assert float(tape.gradient(value, slope)) == pytest.approx(20.0, rel=1e-5)
