import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._adam import adam, adam_size


def test_same_steps_as_keras():
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    point, moments = tf.zeros(3), (tf.zeros(3), tf.zeros(3))
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = keras.optimizers.Adam(0.3, epsilon=1e-8)
    for index, gradient in enumerate(gradients):
        taken = tf.constant(float(index))
        step, moments = adam(gradient, moments, taken=taken, learning_rate=0.3)
        point -= step
        optimizer.apply([tf.constant(gradient)], [variable])
    # Keras adds its epsilon before it takes the bias out.
    np.testing.assert_allclose(point, variable.numpy(), atol=1e-4)


def test_size_is_what_the_step_was_divided_by():
    gradient = np.random.default_rng(1).normal(size=4).astype("float32")
    zero = tf.zeros(4)
    for taken in (0.0, 3.0):
        step, moments = adam(gradient, (zero, zero), taken=taken, learning_rate=1.0)
        size = adam_size(moments[1], taken=taken)
        unbiased = moments[0] / (1 - 0.9 ** (taken + 1))
        np.testing.assert_allclose(step * size, unbiased, rtol=1e-5)
