import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._total_variation import least_variation, total_variation
from tests.support.photographs import photographs


def _differences(images):
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, :-1] = images[:, 1:] - images[:, :-1]
    right[:, :, :-1] = images[:, :, 1:] - images[:, :, :-1]
    return down, right


def _variation(images):
    down, right = _differences(images)
    return np.sqrt(down**2 + right**2).sum(axis=(1, 2, 3))


def _lower_bound(near, images, mask, weight):
    """The largest dual value of a long float64 Chambolle-Pock run from a result.

    The minimum lies in the range of the kept pixels, which makes the dual finite where
    pixels are dropped.
    """
    down, right = np.zeros_like(images), np.zeros_like(images)
    tau, sigma = 0.3, 0.4
    low = np.where(mask > 0, images, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(mask > 0, images, -np.inf).max(axis=(1, 2), keepdims=True)
    ahead, best = near, np.full(len(images), -np.inf)
    for index in range(1500):
        steps = _differences(ahead)
        down, right = down + sigma * steps[0], right + sigma * steps[1]
        scale = np.maximum(1.0, np.sqrt(down**2 + right**2) / weight)
        down, right = down / scale, right / scale
        force = np.zeros_like(images)
        force[:, 1:] += down[:, :-1]
        force[:, :-1] -= down[:, :-1]
        force[:, :, 1:] += right[:, :, :-1]
        force[:, :, :-1] -= right[:, :, :-1]
        new = (near - tau * force + tau * mask * images) / (1 + tau * mask)
        ahead, near = 2 * new - near, new
        if index % 100 == 99:
            end = np.where(force > 0, low, high)
            least = np.clip(np.where(mask > 0, images - force, end), low, high)
            terms = 0.5 * mask * (least - images) ** 2 + least * force
            best = np.maximum(best, terms.sum(axis=(1, 2, 3)))
    return best


def _objective(near, images, mask, weight):
    fit = 0.5 * (mask * (near - images) ** 2).sum(axis=(1, 2, 3))
    return fit + weight * _variation(near)


class TestTotalVariation:
    def test_equal_to_numpy(self, images):
        np.testing.assert_allclose(total_variation(images), _variation(images), 1e-5)

    def test_gradient_is_that_of_finite_differences(self):
        # The published codes for p = 2 are wrong by a factor of two here.
        image = np.random.default_rng(0).uniform(0, 1, (1, 5, 4, 2))
        with tf.GradientTape() as tape:
            x = tf.constant(image)
            tape.watch(x)
            value = total_variation(x)
        slope = tape.gradient(value, x).numpy()
        for place in np.ndindex(image.shape):
            move = np.zeros_like(image)
            move[place] = 1e-6
            change = _variation(image + move) - _variation(image - move)
            assert slope[place] == pytest.approx(change[0] / 2e-6, abs=1e-6)

    def test_gradient_of_a_flat_image_is_zero(self):
        flat = tf.ones((1, 3, 3, 1))
        with tf.GradientTape() as tape:
            tape.watch(flat)
            value = total_variation(flat)
        np.testing.assert_array_equal(tape.gradient(value, flat), np.zeros(flat.shape))


class TestLeastVariation:
    @pytest.mark.parametrize("keep", [0.25, 0.5, 1.0])
    @pytest.mark.parametrize("weight", [0.01, 0.03, 0.1, 0.3])
    def test_duality_gap_is_below_a_percent(self, keep, weight):
        images = photographs((3, 24, 20, 2)) / np.float32(255)
        generator = np.random.default_rng(1)
        mask = (generator.uniform(size=images.shape) < keep).astype("float32")
        near = least_variation(images, mask, keep=keep, weight=weight, steps=200)
        exact = [np.asarray(each, np.float64) for each in (near, images, mask)]
        found = _objective(*exact, weight)
        gap = (found - _lower_bound(*exact, weight)) / found
        assert (gap > -1e-6).all()
        assert (gap < 0.002).all()

    @pytest.mark.parametrize("keep", [0.25, 1.0])
    def test_a_large_weight_leaves_the_mean_of_the_kept_pixels(self, keep):
        images = photographs((2, 24, 20, 2)) / np.float32(255)
        generator = np.random.default_rng(1)
        mask = (generator.uniform(size=images.shape) < keep).astype("float32")
        near = least_variation(images, mask, keep=keep, weight=10.0, steps=200)
        sums, kept = (
            each.sum(axis=(1, 2), keepdims=True) for each in (mask * images, mask)
        )
        np.testing.assert_allclose(near, 0 * images + sums / kept, atol=0.01)

    def test_without_a_kept_pixel_the_image_is_flat(self, images):
        zeros = np.zeros_like(images)
        near = least_variation(images, zeros, keep=0.5, weight=0.03, steps=5)
        assert np.ptp(near) == 0.0
        assert 0.0 <= np.min(near) <= 1.0

    def test_two_pixels_move_towards_each_other_by_the_weight(self):
        for shape in ((1, 1, 2, 1), (1, 2, 1, 1)):
            pair = np.array([0.1, 0.9], "float32").reshape(shape)
            ones = np.ones_like(pair)
            near = least_variation(pair, ones, keep=1.0, weight=0.15, steps=200)
            np.testing.assert_allclose(np.ravel(near), [0.25, 0.75], atol=1e-4)
            near = least_variation(pair, ones, keep=1.0, weight=0.5, steps=200)
            np.testing.assert_allclose(np.ravel(near), [0.5, 0.5], atol=1e-4)

    def test_keeps_the_mean_of_each_channel_without_a_mask(self, images):
        near = least_variation(
            images, np.ones_like(images), keep=1.0, weight=0.1, steps=200
        )
        found = np.mean(near, axis=(1, 2))
        np.testing.assert_allclose(found, images.mean(axis=(1, 2)), atol=1e-4)
        assert (np.asarray(total_variation(near)) < _variation(images)).all()

    def test_dropped_pixels_of_a_flat_image_are_filled(self):
        flat = np.full((1, 9, 9, 1), 0.3, "float32")
        mask = np.ones_like(flat)
        mask[0, 2:6, 2:6] = 0.0
        spoilt = np.where(mask > 0, flat, 0.9)
        near = least_variation(spoilt, mask, keep=0.5, weight=0.03, steps=50)
        np.testing.assert_allclose(near, flat, atol=1e-5)

    def test_more_steps_come_nearer(self, images):
        ones = np.ones_like(images)
        values = []
        for steps in (1, 5, 20, 100):
            near = least_variation(images, ones, keep=1.0, weight=0.1, steps=steps)
            values.append(_objective(np.asarray(near), images, ones, 0.1).sum())
        assert values == sorted(values, reverse=True)
