import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.progress import meter
from keras_advdef.core.traced_function import TracedFunction


def test_one_trace_for_batches_of_any_size():
    seen = []

    def total(rows, offset):
        images, scale = rows["images"], rows["scale"]
        seen.append(images.shape)
        return tf.reduce_sum(images, axis=1) * scale + offset

    function, before = TracedFunction(total), meter.traces
    for count in (1, 3, 2):
        rows = {"images": tf.ones((count, 2)), "scale": tf.constant(3.0)}
        np.testing.assert_array_equal(function(rows, tf.constant(1.0)), [7.0] * count)
    assert [each.as_list() for each in seen] == [[None, 2]]
    assert function.traces == meter.traces - before == 1


def test_other_shapes_and_types_are_traced_again():
    function = TracedFunction(lambda rows, key: 2 * rows + key)
    one = tf.constant(1.0)
    for rows in (tf.ones((3, 2)), tf.ones((3, 4)), tf.ones(3), tf.ones((5, 4))):
        function(rows, one)
    function(tf.ones((3, 2), tf.float64), tf.constant(1.0, tf.float64))
    function(tf.ones((3, 2)), tf.ones(2))
    assert function.traces == 5


def test_a_function_that_needs_the_size_gets_it():
    function = TracedFunction(lambda rows: tf.reshape(rows, [2 * int(rows.shape[0])]))
    for count in (1, 3, 1, 3):
        np.testing.assert_array_equal(function(tf.ones((count, 2))), [1.0] * 2 * count)
    assert function.traces == 2


def test_outputs_are_known_without_a_call():
    ran = tf.Variable(0)

    def doubled(rows):
        ran.assign_add(1)
        return {"twice": 2.0 * rows}

    function = TracedFunction(doubled)
    assert function.outputs(tf.ones((3, 2)))["twice"].shape.as_list() == [None, 2]
    assert ran.numpy() == 0
    np.testing.assert_array_equal(function(tf.ones((1, 2)))["twice"], [[2.0, 2.0]])
    assert function.traces == ran.numpy() == 1


def test_its_own_errors_are_raised():
    def refuse(rows):
        raise ValueError(f"expected fewer than {rows.shape[1]} columns")

    with pytest.raises(ValueError, match="fewer than 2 columns"):
        TracedFunction(refuse)(tf.ones((3, 2)))
