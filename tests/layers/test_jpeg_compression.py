import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.layers import JPEGCompression
from tests.support.photographs import by_libjpeg, photographs

CONTRACT = [
    {"quality": 75},
    {"quality": (20, 90), "subsampling": "4:4:4", "gradient": "soft"},
]


class TestJPEGCompression:
    def test_equal_to_libjpeg(self):
        pixels = photographs((3, 33, 17, 3))
        expected = by_libjpeg(pixels, 75, "4:2:0")
        result = JPEGCompression(75, value_range=(0, 255))(pixels.astype("float32"))
        assert np.abs(result - expected).max() < 0.01

    def test_pixels_are_rounded_not_cut_to_whole_levels(self):
        pixels = photographs((2, 16, 16, 1)).astype("float32")
        layer = JPEGCompression(100, value_range=(0, 255))
        moved = np.clip(pixels - 0.4, 0, 255)
        np.testing.assert_allclose(layer(moved), layer(pixels), atol=1e-3)

    def test_soft_gradient_differs_and_is_finite(self, images):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(JPEGCompression(30, gradient="soft")(x) ** 2)
        slope = tape.gradient(y, x).numpy()
        assert np.isfinite(slope).all()
        assert slope.std() > 0.01

    def test_each_image_has_its_own_quality(self):
        pixels = photographs((1, 16, 16, 3)) / np.float32(255)
        layer = JPEGCompression(quality=(10, 12), seed=0)
        drawn = layer(np.repeat(pixels, 300, axis=0)).numpy()
        options = [JPEGCompression(q)(pixels).numpy()[0] for q in (10, 11, 12)]
        apart = np.stack([np.abs(drawn - o).max(axis=(1, 2, 3)) for o in options])
        assert (apart.min(axis=0) < 1e-6).all()
        # Binomial(300, 1/3): 100 with a deviation of 8.2.
        counts = np.bincount(apart.argmin(axis=0), minlength=3)
        assert np.abs(counts - 100).max() < 35

    def test_carries_state_only_where_it_draws(self):
        fixed, drawn = JPEGCompression(75), JPEGCompression((50, 90))
        assert (fixed.draws, drawn.draws) == (False, True)
        assert (len(fixed.weights), len(drawn.weights)) == (0, 1)
        copy = JPEGCompression.from_config({**drawn.get_config(), "quality": [50, 90]})
        assert copy.quality == (50, 90)

    @given(
        rows=st.integers(1, 20),
        columns=st.integers(1, 20),
        channels=st.sampled_from([1, 3]),
        quality=st.integers(1, 100),
    )
    @settings(max_examples=8, deadline=None)
    def test_keeps_shape_and_range(self, rows, columns, channels, quality):
        shape = (2, rows, columns, channels)
        pixels = np.random.default_rng(0).uniform(0, 1, shape).astype("float32")
        result = JPEGCompression(quality)(pixels).numpy()
        assert result.shape == shape
        assert (result >= 0.0).all()
        assert (result <= 1.0).all()
        levels = result * 255
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)

    @pytest.mark.parametrize("level", [0, 17, 128, 255])
    def test_constant_images_stay(self, level):
        flat = np.full((1, 17, 9, 3), level / 255, "float32")
        np.testing.assert_allclose(JPEGCompression(90)(flat), flat, atol=1e-6)

    def test_images_do_not_touch_each_other(self):
        pixels = photographs((4, 16, 16, 3)) / np.float32(255)
        order = [2, 0, 3, 1]
        layer = JPEGCompression(40)
        np.testing.assert_array_equal(
            layer(pixels[order]), layer(pixels).numpy()[order]
        )

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"quality": 0}, "quality"),
            ({"quality": 101}, "quality"),
            ({"quality": 0.75}, "quality"),
            ({"quality": (80, 20)}, "quality"),
            ({"quality": (80,)}, "quality"),
            ({"subsampling": "4:2:2"}, "subsampling"),
            ({"gradient": "none"}, "gradient"),
        ],
    )
    def test_rejects_arguments(self, arguments, name):
        with pytest.raises(ValueError, match=f"`JPEGCompression` expects `{name}`"):
            JPEGCompression(**arguments)

    def test_rejects_two_channels(self):
        with pytest.raises(ValueError, match="images of 1 or 3 channels"):
            JPEGCompression()(np.zeros((1, 8, 8, 2), "float32"))
