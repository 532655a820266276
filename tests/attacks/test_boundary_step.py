import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._boundary_step import (
    linearized_boundary,
    mean_logits,
    nearest_plane,
    step_past,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, uniform
from keras_advdef.core.random_state import scope_key

NORMS = ("linf", "l2", "l1")


def noisy(images):
    """Two logits, the second of which is drawn anew in each call."""
    first = tf.reduce_sum(images, [1, 2, 3])
    return tf.stack([first, first * uniform(scope_key(), [])], axis=1)


class TestNearestPlane:
    # Distances 3 / (4 + 3) and 1 / 2; 3 / 5 and 1 / 2; 3 / 4 and 1 / 2.
    @pytest.mark.parametrize(("norm", "index"), [("linf", 0), ("l2", 1), ("l1", 1)])
    def test_depends_on_the_norm(self, norm, index):
        values = tf.constant([[-3.0, -1.0]])
        gradients = tf.constant([[4.0, -3.0]]), tf.constant([[0.0, 2.0]])
        value, weights = nearest_plane(values, gradients, norm)
        assert value.numpy().tolist() == [values[0, index]]
        np.testing.assert_array_equal(weights, gradients[index])

    def test_a_zero_gradient_comes_last(self):
        values = tf.constant([[-1e-3, -5.0], [-5.0, -1e-3]])
        zero, one = tf.zeros((1, 2)), tf.ones((1, 2))
        gradients = tf.concat([zero, one], 0), tf.concat([one, zero], 0)
        value, weights = nearest_plane(values, gradients, "l2")
        np.testing.assert_array_equal(value, [-5.0, -5.0])
        np.testing.assert_array_equal(weights, np.ones((2, 2)))


class TestMeanLogits:
    def test_averages_draws_of_their_own(self):
        logits_fn, images = LogitsFunction(noisy), tf.ones((1, 2, 2, 1))
        one, many = (
            mean_logits(logits_fn, images, make_key(0), samples=samples)
            for samples in (1, 200)
        )
        assert abs(float(one[0, 1]) - 2.0) > 0.2
        np.testing.assert_allclose(many, [[4.0, 2.0]], atol=0.3)


class TestLinearizedBoundary:
    def test_of_a_curved_model(self):
        # z1 - z0 = x^2 + 3 y - 1: at (2, 1) value 6 and gradient (4, 3).
        def model(x):
            ahead = x[:, 0, 0, 0] ** 2 + 3 * x[:, 1, 0, 0] - 1
            return tf.stack([tf.zeros_like(ahead), ahead], axis=1)

        value, weights = linearized_boundary(
            LogitsFunction(model),
            tf.reshape([2.0, 1.0], (1, 2, 1, 1)),
            lambda logits: logits[:, 1:] - logits[:, :1],
            make_key(0),
            samples=1,
            norm="l2",
        )
        assert value.numpy().tolist() == [6.0]
        assert weights.numpy().ravel().tolist() == [4.0, 3.0]

    def test_averages_gradients_over_draws(self):
        value, weights = linearized_boundary(
            LogitsFunction(noisy),
            tf.ones((1, 2, 2, 1)),
            lambda logits: logits[:, 1:],
            make_key(0),
            samples=200,
            norm="linf",
        )
        np.testing.assert_allclose(value, [2.0], atol=0.3)
        np.testing.assert_allclose(weights, np.full((1, 2, 2, 1), 0.5), atol=0.08)


class TestStepPast:
    def test_formula_away_from_the_box(self):
        # The plane a = 0.6 from (0.5, 0.4) and, the image, (0.4, 0.5): ways 0.1 and
        # 0.2, so a third would be the share, which is cut to a tenth.
        image, iterate = tf.constant([[0.4, 0.5]]), tf.constant([[0.5, 0.4]])
        plane = tf.constant([-0.2]), tf.constant([[2.0, 0.0]])
        wanted = 0.9 * np.array([0.605, 0.4]) + 0.1 * np.array([0.61, 0.5])
        for norm in NORMS:
            found = step_past(plane, iterate, image, norm)
            np.testing.assert_allclose(found, [wanted], atol=1e-6)

    def test_share_of_a_short_way(self):
        # Ways 0.01 and 0.39: a fortieth.
        image, iterate = tf.constant([[0.2, 0.5]]), tf.constant([[0.58, 0.1]])
        plane = tf.constant([0.01]), tf.constant([[-1.0, 0.0]])
        wanted = np.array([0.5905, 0.1]) * 39 / 40
        wanted += np.array([0.2 + 1.05 * 0.39, 0.5]) / 40
        np.testing.assert_allclose(
            step_past(plane, iterate, image, "l2"), [wanted], atol=1e-6
        )

    @pytest.mark.parametrize("norm", NORMS)
    def test_zero_gradients_and_corners(self, norm):
        corners = tf.constant([[0.0, 1.0], [1.0, 0.0]])
        still = step_past(
            (tf.constant([-1.0, 0.0]), tf.zeros((2, 2))), corners, corners, norm
        )
        np.testing.assert_array_equal(still, corners)
        away = tf.constant([-1.0, -1.0]), tf.constant([[-1.0, 1.0], [1.0, -1.0]])
        np.testing.assert_array_equal(step_past(away, corners, corners, norm), corners)
