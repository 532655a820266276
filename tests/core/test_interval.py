import numpy as np
import tensorflow as tf

from keras_advdef.core import Interval


def test_interval():
    box = Interval(tf.constant([-3.0, 1.0]), tf.constant([1.0, 2.0]))
    np.testing.assert_array_equal(box.centre, [-1.0, 1.5])
    np.testing.assert_array_equal(box.radius, [2.0, 0.5])
    np.testing.assert_array_equal(box.magnitude, [3.0, 2.0])
    wider = box.widened(tf.constant([0.5, 0.0]))
    np.testing.assert_array_equal(wider.lower, [-3.5, 1.0])
    np.testing.assert_array_equal(wider.upper, [1.5, 2.0])
