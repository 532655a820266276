import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from keras_advdef.layers import MedianSmoothing

CONTRACT = [{"size": 2}, {"size": 3}]


def _by_scipy(pixels, size):
    return ndimage.median_filter(pixels, size=(1, size, size, 1), mode="reflect")


class TestMedianSmoothing:
    @pytest.mark.parametrize("size", [2, 3, 4, 5])
    @pytest.mark.parametrize("shape", [(2, 33, 17, 1), (1, 9, 9, 3), (2, 5, 6, 2)])
    def test_equal_to_scipy(self, size, shape):
        pixels = np.random.default_rng(0).uniform(0, 1, shape).astype("float32")
        result = MedianSmoothing(size)(pixels)
        np.testing.assert_array_equal(result, _by_scipy(pixels, size))

    def test_even_windows_take_the_upper_median_of_pixels_up_and_left(self):
        pixels = np.array([[0.1, 0.2], [0.3, 0.4]], "float32").reshape(1, 2, 2, 1)
        result = MedianSmoothing(2)(pixels).numpy()
        # 0.1, 0.2, 0.3, 0.4 at the last pixel: neither 0.2 nor their mean.
        assert result[0, 1, 1, 0] == np.float32(0.3)
        assert result[0, 0, 0, 0] == np.float32(0.1)

    @given(size=st.integers(2, 4), rows=st.integers(4, 12), columns=st.integers(4, 12))
    @settings(max_examples=8, deadline=None)
    def test_gives_pixels_of_the_image(self, size, rows, columns):
        pixels = np.random.default_rng(0).uniform(0, 1, (1, rows, columns, 1))
        pixels = pixels.astype("float32")
        result = MedianSmoothing(size)(pixels).numpy()
        assert result.shape == pixels.shape
        assert np.isin(result, pixels).all()

    def test_constant_images_stay_and_images_do_not_touch_each_other(self, images):
        flat = np.full((1, 6, 7, 2), 0.3, "float32")
        np.testing.assert_array_equal(MedianSmoothing(3)(flat), flat)
        order = [5, 3, 1, 0, 2, 4]
        smoothed = MedianSmoothing(2)(images).numpy()
        np.testing.assert_array_equal(
            MedianSmoothing(2)(images[order]), smoothed[order]
        )

    @pytest.mark.parametrize("size", [1, 2.5, True])
    def test_rejects_size(self, size):
        with pytest.raises(ValueError, match="`MedianSmoothing` expects `size`"):
            MedianSmoothing(size)

    def test_rejects_images_smaller_than_the_window(self):
        with pytest.raises(ValueError, match="images of at least 5 x 5 pixels"):
            MedianSmoothing(5)(np.zeros((1, 4, 9, 1), "float32"))

    def test_rejects_images_of_unknown_size(self):
        with pytest.raises(ValueError, match="images of known size"):
            MedianSmoothing(3)(keras.Input((None, None, 3)))
