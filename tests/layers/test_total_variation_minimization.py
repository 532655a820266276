import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.core.random_numbers import make_key, uniform
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import TotalVariationMinimization
from keras_advdef.layers._total_variation import least_variation

CONTRACT = [
    {"keep_probability": 0.5, "weight": 0.1, "steps": 50},
    {"keep_probability": 1.0, "weight": 0.1},
]


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
        # With a tiny weight, kept pixels stay, and no other matches noise by chance.
        pixels = np.random.default_rng(0).uniform(0, 1, (4, 20, 20, 3))
        pixels = pixels.astype("float32")
        layer = TotalVariationMinimization(
            keep_probability=keep, weight=1e-4, steps=400, seed=0
        )
        kept = np.abs(layer(pixels) - pixels) < 1e-3
        deviation = np.sqrt(keep * (1 - keep) / kept.size)
        # A dropped pixel comes this close about once in 100 to 200 times.
        assert kept.mean() == pytest.approx(keep, abs=4 * deviation + 0.02)
        both = (kept[..., 0] & kept[..., 1]).mean()
        assert both == pytest.approx(keep**2, abs=0.06)
        across = (kept[0] & kept[1]).mean()
        assert across == pytest.approx(keep**2, abs=0.06)

    def test_fits_the_pixels_whose_draws_are_below_the_probability(self):
        pixels = np.random.default_rng(0).uniform(0, 1, (3, 9, 7, 2)).astype("float32")
        layer = TotalVariationMinimization(keep_probability=0.3, weight=0.1, steps=10)
        with draw_scope(make_key(3)):
            mask = uniform(layer.next_key(), pixels.shape) < 0.3
        with draw_scope(make_key(3)):
            found = layer(pixels)
        mask = tf.cast(mask, tf.float32)
        expected = least_variation(pixels, mask, keep=0.3, weight=0.1, steps=10)
        np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)

    def test_iterates_beyond_the_range_are_clipped(self):
        white = np.ones((1, 9, 9, 1), "float32")
        white[0, 4, 4] = 0.0
        arguments = {"weight": 1.0, "steps": 6}
        raw = least_variation(white, np.ones_like(white), keep=1.0, **arguments)
        assert np.max(raw) > 1.01
        found = TotalVariationMinimization(keep_probability=1.0, **arguments)(white)
        np.testing.assert_allclose(found, np.clip(raw, 0, 1), atol=1e-5)

    def test_agrees_in_every_mode(self):
        pixels = np.random.default_rng(0).uniform(0, 1, (3, 13, 9, 2))
        images = tf.constant(pixels, tf.float32)
        layer = TotalVariationMinimization()

        def call(x, key):
            with draw_scope(key):
                return layer(x)

        eager = call(images, make_key(5))
        unknown = [tf.TensorSpec([None, 13, 9, 2]), tf.TensorSpec([2], tf.int64)]
        for jit in (False, True):
            traced = tf.function(call, jit_compile=jit, input_signature=unknown)
            found = traced(images, make_key(5))
            np.testing.assert_allclose(found, eager, atol=2e-6)
            assert traced(images[:1], make_key(5)).shape == (1, 13, 9, 2)

    @settings(max_examples=6, deadline=None)
    @given(
        shape=st.tuples(*map(st.integers, [1] * 4, [3, 12, 12, 3])),
        dtype=st.sampled_from(["float16", "float32"]),
        value_range=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]),
        keep=st.floats(0.01, 1.0),
        weight=st.floats(1e-4, 10.0),
    )
    def test_keeps_shape_dtype_and_range(self, shape, dtype, value_range, keep, weight):
        layer = TotalVariationMinimization(
            keep_probability=keep, weight=weight, steps=20, value_range=value_range
        )
        pixels = np.random.default_rng(0).uniform(*value_range, shape)
        outputs = layer(tf.cast(pixels, dtype))
        assert outputs.shape == shape
        assert outputs.dtype == dtype
        assert np.isfinite(outputs).all()
        assert np.min(outputs) >= value_range[0]
        assert np.max(outputs) <= value_range[1]

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
