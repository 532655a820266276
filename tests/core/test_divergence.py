import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, rel_entr, softmax

from keras_advdef.core.divergence import kl_divergence


def _both(clean, other):
    """The divergence, and its gradients towards both logits."""
    clean, other = tf.constant(clean), tf.constant(other)
    with tf.GradientTape() as tape:
        tape.watch([clean, other])
        value = kl_divergence(tf.nn.log_softmax(clean), other)
    return value, *tape.gradient(value, [clean, other])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (2, 5, 4))


def test_matches_scipy(logits):
    value, _, _ = _both(*logits)
    expected = rel_entr(*softmax(logits, axis=-1)).sum(axis=-1)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_gradients_match_finite_differences(logits):
    _, *gradients = _both(*logits)
    step = 1e-6
    for side, gradient in enumerate(gradients):
        for place in np.ndindex(logits.shape[1:]):
            there, back = logits.copy(), logits.copy()
            there[side][place] += step
            back[side][place] -= step
            slope = (_both(*there)[0] - _both(*back)[0])[place[0]] / (2 * step)
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-9)


def test_is_exactly_flat_where_predictions_agree(in_every_mode):
    """Attacks would follow the sign of a rounding error."""
    logits = tf.constant(np.random.default_rng(0).normal(0, 9, (64, 10)), tf.float32)

    def at_itself(logits):
        wanted = tf.nn.log_softmax(logits)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = kl_divergence(wanted, logits)
        return value, tape.gradient(value, logits)

    for value, gradient in in_every_mode(at_itself, logits):
        np.testing.assert_array_equal(value, 0.0)
        np.testing.assert_array_equal(gradient, 0.0)


def test_sure_predictions_are_not_clipped():
    clean, other = [[300.0, 0.0]], [[0.0, 300.0]]
    value, _, gradient = _both(clean, other)
    np.testing.assert_allclose(value, [300.0])
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]])
    assert log_softmax(other)[0, 0] == -300.0
