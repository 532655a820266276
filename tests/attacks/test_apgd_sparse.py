import numpy as np
import tensorflow as tf

from keras_advdef.attacks import _apgd_sparse as apgd_sparse
from keras_advdef.core.norms import norm_per_image

SHAPE = (1, 4, 1, 1)
GRADIENT = np.array([1.0, 4.0, 2.0, 3.0], "float32").reshape(SHAPE)


def _step(state, taken, loss=1.0):
    return apgd_sparse.step(
        state,
        tf.constant([loss]),
        tf.constant(GRADIENT),
        epsilon=tf.constant(0.1),
        taken=tf.constant(float(taken)),
        steps=10,
    )


def _state():
    half = tf.fill(SHAPE, 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    return apgd_sparse.init_state(state, tf.constant(0.1))


def test_balls_shrink_from_three_epsilons_to_one():
    state, scales = _state(), []
    for taken in range(10):
        state = _step(state, taken, loss=float(taken))
        scales.append(float(state["scale"][0]))
        size = float(norm_per_image(state["iterate"] - 0.5, "l1")[0])
        assert size <= 0.1 * scales[-1] + 1e-6
    assert scales == [3.0] * 3 + [2.0] * 3 + [1.0] * 4


def test_a_fifth_of_the_pixels_moves_first():
    # One pixel of four, the steepest, by the whole radius of three epsilons.
    moved = np.ravel(_step(_state(), 0)["iterate"])
    np.testing.assert_allclose(moved, [0.5, 0.8, 0.5, 0.5], atol=1e-6)


def test_only_points_of_the_real_ball_may_be_returned():
    state = _state()
    np.testing.assert_array_equal(state["best"], state["images"])
