import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.square_patches import bump_factors, bumps, patch


def stacked_squares(rows, cols):
    """A bump as in the paper: squares around a center, each 1 / r**2 high."""
    bump = np.zeros((rows, cols))
    for radius in range(cols // 2 + 1):
        top, left = rows // 2 - radius, cols // 2 - radius
        box = np.s_[max(top, 0) : rows // 2 + radius + 1, left : cols // 2 + radius + 1]
        bump[box] += 1 / (radius + 1) ** 2
    return bump


class TestPatch:
    @pytest.mark.parametrize("side", [3, 5, 7, 13, 25])
    def test_is_two_stacks_of_squares(self, side):
        halves = [stacked_squares(rows, side) for rows in (side // 2, side - side // 2)]
        up, down = (half / np.linalg.norm(half) / np.sqrt(2) for half in halves)
        np.testing.assert_allclose(patch(side), np.concatenate([up, -down]))

    @pytest.mark.parametrize("side", [1, 2, 5, 6])
    def test_has_norm_one(self, side):
        assert np.linalg.norm(patch(side)) == pytest.approx(1.0)

    def test_of_one_pixel_has_no_upper_half(self):
        assert patch(1).tolist() == [[-1.0]]


class TestBumps:
    @pytest.mark.parametrize("side", [1, 3, 7, 13])
    @pytest.mark.parametrize("is_turned", [False, True])
    def test_are_the_patch_in_its_place(self, side, is_turned):
        rows, cols, top, left = 13, 16, 13 - side, 2
        expected = np.zeros((rows, cols))
        turned = patch(side).T if is_turned else patch(side)
        expected[top : top + side, left : left + side] = turned
        found = bumps(
            tf.range(rows, dtype=tf.float32)[None] - top,
            tf.range(cols, dtype=tf.float32)[None] - left,
            side=tf.constant([[float(side)]]),
            factors=[tf.constant([[each]]) for each in bump_factors(side)],
            is_turned=tf.constant([[is_turned]]),
        )
        assert found.shape == (1, rows, cols, 1)
        np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-6)

    def test_take_a_side_for_each_image(self):
        places = tf.repeat(tf.range(9, dtype=tf.float32)[None], 2, axis=0)
        factors = np.array([bump_factors(3), bump_factors(5)], "float32")
        found = bumps(
            places,
            places,
            side=tf.constant([[3.0], [5.0]]),
            factors=[factors[:, :1], factors[:, 1:]],
            is_turned=tf.constant([[False], [True]]),
        ).numpy()[..., 0]
        np.testing.assert_allclose(found[0, :3, :3], patch(3), atol=1e-6)
        np.testing.assert_allclose(found[1, :5, :5], patch(5).T, atol=1e-6)
