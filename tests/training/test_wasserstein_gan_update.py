import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training._finite_guard import FiniteStep, new_record
from keras_advdef.training.wasserstein_gan import update_net, with_loss_scale


def net(**options):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, **options)])


def begun():
    return FiniteStep(new_record(), [], [], {})


def test_one_step_of_plain_descent_on_one_net():
    first, second = net(), net()
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(first.trainable_variables)
    before = [each.get_weights() for each in (first, second)]
    images = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(first(images) * second(images))
    update_net(optimizer, tape, loss, net=first, step=begun())
    slope = float(np.squeeze(images @ before[1][0] + before[1][1]))
    expected = before[0][0] - 0.5 * slope * np.transpose(images)
    np.testing.assert_allclose(first.get_weights()[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(second.get_weights()[0], before[1][0])


def test_losses_of_the_nets_own_layers_count():
    model = net(kernel_regularizer=keras.regularizers.L2(1.0), use_bias=False)
    optimizer = keras.optimizers.SGD(0.25)
    optimizer.build(model.trainable_variables)
    before = model.get_weights()[0]
    with tf.GradientTape() as tape:
        loss = 0.0 * tf.reduce_sum(model(tf.ones((1, 2))))
    update_net(optimizer, tape, loss, net=model, step=begun())
    np.testing.assert_allclose(model.get_weights()[0], 0.5 * before, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "is_scaled"), [("float32", False), ("mixed_float16", True)]
)
def test_only_half_precision_is_scaled(dtype, is_scaled):
    optimizer = keras.optimizers.SGD()
    found = with_loss_scale(optimizer, [net(), net(dtype=dtype)])
    assert isinstance(found, keras.optimizers.LossScaleOptimizer) == is_scaled
    assert with_loss_scale(found, [net(dtype=dtype)]) is found
