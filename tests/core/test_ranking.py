import numpy as np
import tensorflow as tf

from keras_advdef.core.logit_margin import largest
from tests.support.kernels import missing_kernels


def test_matches_sorting():
    logits = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    expected = np.sort(logits, axis=-1)[:, ::-1]
    found = np.stack(largest(tf.constant(logits), 6), axis=1)
    np.testing.assert_array_equal(found, expected)


def test_equal_values_count_as_often_as_they_occur():
    values = largest(tf.constant([[2.0, 2.0, 1.0]]), 3)
    assert [float(each[0]) for each in values] == [2.0, 2.0, 1.0]


def test_gradient_goes_to_the_place_and_runs_anywhere():
    def gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            third = tf.reduce_sum(largest(logits, 3)[2])
        return tape.gradient(third, logits)

    logits = tf.constant([[1.0, 4.0, 2.0, 3.0]] * 50)
    np.testing.assert_array_equal(gradient(logits)[0], [0, 0, 1, 0])
    assert missing_kernels(gradient, logits) == {}
