import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws


@pytest.mark.parametrize("count", [1, 3, 30])
def test_is_the_mean_of_each_part(count):
    values = tf.constant(np.random.default_rng(0).normal(size=(30, 2)), tf.float32)

    def draw(index):
        return tf.gather(values, index), tf.gather(values[:, 0], index) ** 2

    for call in (mean_over_draws, tf.function(mean_over_draws, autograph=False)):
        first, second = call(draw, count)
        np.testing.assert_allclose(first, np.mean(values[:count], axis=0), atol=1e-6)
        np.testing.assert_allclose(second, np.mean(values[:count, 0] ** 2), atol=1e-6)
