import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._slopes import slopes


class TestSlopes:
    def test_gives_each_row_of_a_matrix(self):
        matrix = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
        points = tf.ones((2, 5))
        outputs, gradients = slopes(lambda x: x @ matrix.T, points)
        np.testing.assert_allclose(outputs, points @ matrix.T)
        assert len(gradients) == 3
        for row, gradient in zip(matrix, gradients, strict=True):
            np.testing.assert_allclose(gradient, [row, row], rtol=1e-6)

    def test_images_have_their_own(self):
        points = tf.constant([[1.0], [3.0]])
        _, (square, cube) = slopes(lambda x: tf.concat([x**2, x**3], 1), points)
        np.testing.assert_allclose(square, [[2], [6]])
        np.testing.assert_allclose(cube, [[3], [27]])

    def test_scale_saves_what_would_vanish(self):
        def half(x):
            small = tf.cast(x, tf.float16) * tf.constant(2.0**-14, tf.float16)
            return tf.cast(small * tf.constant(2.0**-14, tf.float16), tf.float32)

        points = tf.ones((1, 1))
        assert slopes(half, points)[1][0].numpy() == 0
        assert slopes(half, points, scale=2.0**10)[1][0].numpy() == 2.0**-28

    def test_replaces_what_is_not_finite(self):
        _, (gradient,) = slopes(tf.sqrt, tf.constant([[0.0], [4.0]]))
        np.testing.assert_allclose(gradient, [[0], [0.25]])

    def test_may_be_differentiated_again(self):
        weight = tf.Variable(3.0)
        with tf.GradientTape() as tape:
            _, (gradient,) = slopes(lambda x: weight**2 * x, tf.ones((1, 1)))
            total = tf.reduce_sum(gradient)
        np.testing.assert_allclose(tape.gradient(total, weight), 6)

    def test_rejects_outputs_without_gradient(self):
        with pytest.raises(ValueError, match="`slopes` expects `function` to depend"):
            slopes(tf.zeros_like, tf.ones((1, 2)))
