import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.gradients import are_gradients_soft, soft_gradients
from keras_advdef.layers import JPEGCompression
from tests.support.threads import in_other_thread


def test_scope_ends_with_its_body():
    with soft_gradients():
        with soft_gradients():
            assert are_gradients_soft()
        assert are_gradients_soft()
    assert not are_gradients_soft()


def test_scope_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), soft_gradients():
        raise ZeroDivisionError
    assert not are_gradients_soft()


def test_scope_is_local_to_its_thread():
    with soft_gradients():
        assert not in_other_thread(are_gradients_soft)
        assert are_gradients_soft()


def test_compression_has_the_gradient_of_its_soft_self():
    images = tf.constant(np.random.default_rng(0).uniform(size=(2, 16, 16, 3)))
    images = tf.cast(images, tf.float32)

    def found(layer):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
            total = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(total, images)

    with soft_gradients():
        outputs, gradient = found(JPEGCompression(30))
    expected, soft = found(JPEGCompression(30, gradient="soft"))
    same, straight = found(JPEGCompression(30))
    np.testing.assert_allclose(gradient, soft, atol=1e-6)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(outputs, same, atol=1e-6)
    assert not np.allclose(gradient, straight, atol=1e-2)
