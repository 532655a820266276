import keras
import numpy as np
import pytest

from keras_advdef.core.image_layout import (
    checked_data_format,
    from_channels_last,
    shape_channels_last,
    to_channels_last,
)


class TestCheckedDataFormat:
    def test_follows_keras(self):
        assert checked_data_format("Layer") == "channels_last"
        keras.config.set_image_data_format("channels_first")
        try:
            assert checked_data_format("Layer") == "channels_first"
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_rejects_others(self):
        with pytest.raises(ValueError, match="`Layer` expects `data_format` to be one"):
            checked_data_format("Layer", "NCHW")


def test_order_of_the_axes():
    images = np.zeros((2, 3, 8, 9), "float32")
    images[:, 1, 4] = 1.0
    last = to_channels_last(images, "channels_first").numpy()
    assert shape_channels_last(images.shape, "channels_first") == last.shape
    np.testing.assert_array_equal(last[:, 4, :, 1], 1.0)
    np.testing.assert_array_equal(from_channels_last(last, "channels_first"), images)


def test_nothing_to_do():
    images = np.zeros((2, 8, 9, 3))
    assert to_channels_last(images, "channels_last") is images
    assert from_channels_last(images, "channels_last") is images
    assert shape_channels_last((None, 8, 9, 3), "channels_last") == (None, 8, 9, 3)
