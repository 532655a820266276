import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._bumps import bumps
from tests.support.kernels import missing_kernels


def stacked_squares(rows, cols):
    """A bump as in the paper: squares around a center, each 1 / r**2 high."""
    bump = np.zeros((rows, cols))
    for radius in range(cols // 2 + 1):
        top, left = rows // 2 - radius, cols // 2 - radius
        box = np.s_[max(top, 0) : rows // 2 + radius + 1, left : cols // 2 + radius + 1]
        bump[box] += 1 / (radius + 1) ** 2
    return bump


def patch(side, order=2):
    """Two bumps of equal norm, one up and one down, of norm one together."""
    halves = [stacked_squares(rows, side) for rows in (side // 2, side - side // 2)]
    norms = [np.linalg.norm(half.ravel(), order) for half in halves]
    share = sum(norm > 0 for norm in norms) ** (-1 / order)
    up, down = (
        share * half / norm if norm else half
        for half, norm in zip(halves, norms, strict=True)
    )
    return np.concatenate([up, -down])


def places(count, first=0):
    return tf.range(count, dtype=tf.float32)[None] - first


class TestBumps:
    @pytest.mark.parametrize("side", [1, 2, 3, 4, 6, 7, 13])
    @pytest.mark.parametrize("is_turned", [False, True])
    @pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1)])
    def test_are_the_patch_in_its_place(self, norm, order, side, is_turned):
        rows, cols, top, left = 13, 16, 13 - side, 2
        expected = np.zeros((rows, cols))
        turned = patch(side, order).T if is_turned else patch(side, order)
        expected[top : top + side, left : left + side] = turned
        found = bumps(
            places(rows, top),
            places(cols, left),
            side=tf.constant([[float(side)]]),
            is_turned=tf.constant([[is_turned]]),
            norm=norm,
        )
        assert found.shape == (1, rows, cols, 1)
        np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-6)
        assert np.linalg.norm(np.ravel(found), order) == pytest.approx(1.0, rel=1e-5)

    def test_take_a_side_for_each_image(self):
        nine = tf.repeat(places(9), 2, axis=0)
        found = bumps(
            nine,
            nine,
            side=tf.constant([[3.0], [5.0]]),
            is_turned=tf.constant([[False], [True]]),
        ).numpy()[..., 0]
        np.testing.assert_allclose(found[0, :3, :3], patch(3), atol=1e-6)
        np.testing.assert_allclose(found[1, :5, :5], patch(5).T, atol=1e-6)

    def test_of_one_pixel_has_no_upper_half(self):
        one = {"side": tf.ones((1, 1)), "is_turned": tf.constant([[False]])}
        assert bumps(places(1), places(1), **one).numpy().ravel().tolist() == [-1.0]

    def test_are_exact_in_a_large_image(self):
        side, is_turned = tf.constant([[201.0]]), tf.constant([[False]])
        found = bumps(places(224), places(224), side=side, is_turned=is_turned)
        expected = patch(201)
        np.testing.assert_allclose(found[0, :201, :201, 0], expected, atol=1e-6)

    def test_run_wholly_on_a_gpu(self):
        def put(down, side, is_turned):
            return bumps(down, down, side=side, is_turned=is_turned)

        assert (
            missing_kernels(put, places(9), tf.ones((1, 1)), tf.ones((1, 1)) > 0) == {}
        )
