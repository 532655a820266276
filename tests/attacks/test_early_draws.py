import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._early_draws import remembering, steadied


def looks(values, *, early=1000):
    """What is handed on for each of some looks at two images, the second a NaN once."""
    state = remembering({"iterate": tf.zeros((2, 3)), "best_loss": tf.zeros(2)})
    found = []
    for index, value in enumerate(values):
        taken = tf.constant(float(index))
        state, losses, gradient = steadied(
            state,
            tf.constant(value, tf.float32),
            tf.constant(value, tf.float32)[:, None] * tf.ones((2, 3)),
            taken=taken,
            is_early=taken < early,
        )
        np.testing.assert_array_equal(gradient[:, 0], losses)
        found.append(losses.numpy().tolist())
    return np.array(found)


def test_mean_weighs_each_look_nine_tenths_of_the_next():
    values = np.random.default_rng(0).normal(size=(30, 2))
    weights = 0.9 ** np.arange(30)[::-1]
    expected = weights @ values / weights.sum()
    np.testing.assert_allclose(looks(values)[-1], expected, rtol=1e-5)
    np.testing.assert_allclose(looks(values[:1])[0], values[0], rtol=1e-6)


def test_looks_of_many_draws_stand_for_themselves():
    values = np.arange(8.0).reshape(4, 2)
    np.testing.assert_allclose(looks(values, early=2)[2:], values[2:], rtol=1e-6)


def test_a_look_without_an_answer_is_shown_and_forgotten():
    values = np.array([[1.0, 1.0], [1.0, np.nan], [1.0, np.inf], [1.0, 1.0]])
    found = looks(values)
    np.testing.assert_allclose(found, values, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_gradient_that_is_not_finite_hides_only_its_own_image(bad):
    state = remembering({"iterate": tf.zeros((2, 2)), "best_loss": tf.zeros(2)})
    gradient = tf.constant([[1.0, bad], [1.0, 2.0]])
    number = tf.constant(0.0)
    state, losses, seen = steadied(
        state, tf.ones(2), gradient, taken=number, is_early=tf.constant(True)
    )
    np.testing.assert_allclose(seen, gradient, rtol=1e-6)
    np.testing.assert_allclose(losses, [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(state["steady_gradient"], [[0, 0], [1, 2]], rtol=1e-6)


def test_rows_may_have_taken_different_steps():
    state = remembering({"iterate": tf.zeros((2, 1)), "best_loss": tf.zeros(2)})
    state["steady_loss"] = tf.constant([0.0, 1.0])
    _, losses, _ = steadied(
        state,
        tf.constant([3.0, 3.0]),
        tf.ones((2, 1)),
        taken=tf.constant([0.0, 1.0]),
        is_early=tf.constant([True, True]),
    )
    np.testing.assert_allclose(losses, [3.0, 1.0 + 2.0 / 1.9], rtol=1e-6)
