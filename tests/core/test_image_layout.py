import pytest
import tensorflow as tf

from keras_advdef.core.image_layout import flattened, rows_and_cols, value_count


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
