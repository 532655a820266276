import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.total_variation import least_variation
from keras_advdef.layers import TotalVariationMinimization


class TestTotalVariationMinimization:
    def test_without_a_mask_it_is_the_denoised_image(self, images):
        layer = TotalVariationMinimization(keep_probability=1.0, weight=0.1)
        ones = np.ones_like(images)
        expected = least_variation(images, ones, keep=1.0, weight=0.1, steps=200)
        np.testing.assert_allclose(layer(images), expected, atol=1e-5)
        assert not layer.draws
        assert not layer.weights

    @pytest.mark.parametrize("keep", [0.2, 0.7])
    def test_keeps_each_pixel_of_each_channel_by_itself(self, keep):
        # With a tiny weight kept pixels stay, and white noise is never met by chance.
        pixels = np.random.default_rng(0).uniform(0, 1, (4, 20, 20, 3))
        pixels = pixels.astype("float32")
        layer = TotalVariationMinimization(
            keep_probability=keep, weight=1e-4, steps=400, seed=0
        )
        kept = np.abs(layer(pixels) - pixels) < 1e-3
        deviation = np.sqrt(keep * (1 - keep) / kept.size)
        # A dropped pixel comes as near as that once in a hundred or two.
        assert kept.mean() == pytest.approx(keep, abs=4 * deviation + 0.02)
        both = (kept[..., 0] & kept[..., 1]).mean()
        assert both == pytest.approx(keep**2, abs=0.06)
        across = (kept[0] & kept[1]).mean()
        assert across == pytest.approx(keep**2, abs=0.06)

    def test_constant_images_stay(self):
        flat = np.full((2, 7, 5, 3), 0.3, "float32")
        result = TotalVariationMinimization(keep_probability=0.3, seed=0)(flat)
        np.testing.assert_allclose(result, flat, atol=1e-6)

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 9, 3), (2, 33, 17, 1)])
    def test_any_size(self, shape):
        pixels = np.random.default_rng(0).uniform(0, 1, shape).astype("float32")
        result = TotalVariationMinimization(seed=0)(pixels).numpy()
        assert result.shape == shape
        assert np.isfinite(result).all()
        assert result.min() >= 0.0
        assert result.max() <= 1.0

    def test_images_do_not_touch_each_other(self, images):
        layer = TotalVariationMinimization(keep_probability=1.0)
        order = [5, 3, 1, 0, 2, 4]
        fitted = layer(images).numpy()
        np.testing.assert_allclose(layer(images[order]), fitted[order], atol=1e-6)

    def test_backward_pass_is_the_identity(self, images):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(3.0 * TotalVariationMinimization()(x))
        np.testing.assert_array_equal(tape.gradient(y, x), np.full(x.shape, 3.0))

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"keep_probability": 0.0}, "keep_probability"),
            ({"keep_probability": 1.1}, "keep_probability"),
            ({"weight": 0.0}, "weight"),
            ({"steps": 0}, "steps"),
        ],
    )
    def test_rejects(self, arguments, name):
        rule = f"`TotalVariationMinimization` expects `{name}`"
        with pytest.raises(ValueError, match=rule):
            TotalVariationMinimization(**arguments)
