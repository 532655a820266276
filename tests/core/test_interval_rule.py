import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import Interval, interval_rule
from keras_advdef.core.interval_net import IntervalNet


class Square(keras.layers.Layer):
    """A user's own layer, which neither rises nor falls."""

    def call(self, x):
        return x**2


def _net():
    return keras.Sequential([keras.Input((2,)), Square(name="mine")])


def test_a_layer_without_a_rule_is_named():
    with pytest.raises(ValueError, match=r"`mine` \(Square\) is none.*interval_rule"):
        IntervalNet("test", _net())


def test_a_users_rule_counts():
    class Mine(Square):
        pass

    @interval_rule(Mine)
    def square(layer, box):
        ends = tf.stack([box.lower**2, box.upper**2])
        is_inside = (box.lower < 0) & (box.upper > 0)
        least = tf.where(is_inside, 0.0, tf.reduce_min(ends, axis=0))
        return Interval(least, tf.reduce_max(ends, axis=0))

    net = IntervalNet("test", keras.Sequential([keras.Input((2,)), Mine()]))
    box = Interval(tf.constant([[-1.0, 1.0]]), tf.constant([[2.0, 3.0]]))
    found = net.outputs(box)
    np.testing.assert_array_equal(found.lower, [[0.0, 1.0]])
    np.testing.assert_array_equal(found.upper, [[4.0, 9.0]])
    assert square(None, box).upper.shape == (1, 2)


@pytest.mark.parametrize("kind", [3, int, "Dense"])
def test_refuses_what_is_no_layer(kind):
    with pytest.raises(TypeError, match="`kinds` to be classes of layers"):
        interval_rule(kind)
