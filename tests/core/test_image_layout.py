import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.image_layout import (
    block_size,
    checked_data_format,
    flattened,
    from_channels_last,
    pad_rows,
    rows_and_cols,
    shape_channels_last,
    to_channels_last,
    value_count,
)


def in_a_graph(function, images, shape):
    spec = tf.TensorSpec(shape)
    return tf.function(function, input_signature=[spec], autograph=False)(images)


class TestValueCount:
    def test_is_a_number_where_the_shape_is_known(self):
        assert value_count(tf.zeros((2, 3, 4, 5))) == 60.0
        assert value_count(tf.zeros((2, 7))) == 7.0

    @pytest.mark.parametrize("shape", [(None, None, 4, 5), (None,) * 4])
    def test_is_counted_where_it_is_not(self, shape):
        found = in_a_graph(value_count, tf.zeros((2, 3, 4, 5)), shape)
        assert found.dtype == tf.float32
        assert found.numpy() == 60.0


class TestRowsAndCols:
    def test_are_numbers_where_they_are_known(self):
        assert rows_and_cols(tf.zeros((2, 3, 4, 5))) == (3.0, 4.0)

    def test_are_found_where_they_are_not(self):
        found = in_a_graph(rows_and_cols, tf.zeros((2, 3, 4, 5)), [None, 3, None, 5])
        assert [each.numpy() for each in found] == [3.0, 4.0]


class TestFlattened:
    @pytest.mark.parametrize("shape", [(None, 2, 2, 1), (None,) * 4, (2, None, 2, 1)])
    def test_keeps_the_order(self, shape):
        images = tf.reshape(tf.range(8.0), (2, 2, 2, 1))
        found = in_a_graph(flattened, images, shape)
        assert found.numpy().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_knows_its_length_where_the_shape_is_known(self):
        flat = tf.function(flattened, autograph=False)
        spec = tf.TensorSpec([None, 2, 2, 1])
        assert flat.get_concrete_function(spec).structured_outputs.shape[1] == 4


def test_padding_repeats_rows():
    rows = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(pad_rows(rows, 5), rows[[0, 1, 2, 0, 1]])
    assert pad_rows(rows, 3) is rows


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (128, 128)]
)
def test_block_is_the_smallest_of_four(rows, size):
    assert block_size(rows, 128) == size


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
