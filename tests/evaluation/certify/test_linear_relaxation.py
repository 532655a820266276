import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import Interval
from keras_advdef.core.interval_net import IntervalNet
from keras_advdef.evaluation._certify.linear_relaxation import LinearRelaxation

_LAYERS = keras.layers


def _residual():
    """Branches, pooling, and an activation that lines do not pass."""
    inputs = keras.Input((4, 4, 2))
    x = _LAYERS.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    y = _LAYERS.DepthwiseConv2D(3, padding="same")(x)
    y = _LAYERS.BatchNormalization()(y)
    x = _LAYERS.Add()([x, _LAYERS.LeakyReLU(0.2)(y)])
    x = _LAYERS.Concatenate()([x, _LAYERS.Subtract()([x, y])])
    x = _LAYERS.AveragePooling2D(2)(x)
    x = _LAYERS.Activation("tanh")(_LAYERS.Conv2D(3, 1)(x))
    x = _LAYERS.MaxPooling2D(2)(_LAYERS.ReLU()(x))
    return keras.Model(inputs, _LAYERS.Dense(3)(_LAYERS.Flatten()(x)))


@pytest.fixture(scope="module")
def relaxed():
    keras.utils.set_random_seed(1)
    net, draw = _residual(), np.random.default_rng(0)
    for weight in net.trainable_weights:
        weight.assign(draw.normal(0.0, 0.5, weight.shape))
    images = draw.uniform(size=(3, 4, 4, 2))
    box = Interval(tf.constant(images - 0.05), tf.constant(images + 0.05))
    taken = IntervalNet("test", net)
    return net, images, box, taken, LinearRelaxation(taken, box, unit=2.0**-24)


def test_no_image_of_the_box_leaves_the_bounds(relaxed):
    net, images, box, taken, lines = relaxed
    draw = np.random.default_rng(2)
    moves = 0.05 * np.sign(draw.uniform(-1.0, 1.0, (300, *images.shape)))
    points = (images + moves).astype(np.float32).reshape((-1, 4, 4, 2))
    logits = net.predict(points, verbose=0, batch_size=300).reshape((300, 3, 3))
    for label in range(3):
        labels = tf.constant([label] * 3)
        found = lines.margins(labels).numpy()
        least = (logits[:, :, label, None] - logits).min(axis=0)
        assert (found <= least + 1e-6).all()
        np.testing.assert_allclose(found[:, label], 0.0, atol=1e-6)
        boxes = taken.margins(box, labels, unit=2.0**-24).numpy()
        assert found.sum() > boxes.sum()


def test_bounds_of_any_value_and_function(relaxed):
    net, images, _, _, lines = relaxed
    draw = np.random.default_rng(3)
    # Of the first convolution, before its activation: exact.
    rows = tf.constant(draw.normal(size=(3, 2, 4, 4, 3)))
    found = lines.least(1, rows).numpy()
    kernel = net.layers[1].kernel
    with tf.GradientTape() as tape:
        point = tf.constant(images.astype(np.float32))
        tape.watch(point)
        values = tf.nn.conv2d(point, kernel, 1, "SAME") + net.layers[1].bias
        total = tf.reduce_sum(values * tf.cast(rows[:, 0], tf.float32), axis=(1, 2, 3))
    slopes = tape.gradient(total, point)
    expected = total - 0.05 * tf.reduce_sum(tf.abs(slopes), axis=(1, 2, 3))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


def test_stable_activations_cost_nothing():
    """Where no unit changes its sign, the bounds are exact."""
    net = keras.Sequential(
        [
            keras.Input((2,)),
            _LAYERS.Dense(2, activation="relu"),
            _LAYERS.Dense(2, activation="relu"),
            _LAYERS.Dense(2),
        ]
    )
    for layer in net.layers:
        layer.set_weights([np.array([[1.0, -0.5], [0.5, 1.0]]), np.array([3.0, -3.0])])
    point = np.array([[1.0, 1.0]])
    box = Interval(tf.constant(point - 0.1), tf.constant(point + 0.1))
    lines = LinearRelaxation(IntervalNet("test", net), box, unit=0.0)
    # Only the first unit of each layer is on: z = (x + y / 2 + 3 + 3) (1, -1 / 2) + ...
    hidden = 1.0 * (point @ [1.0, 0.5] + 3.0) + 3.0
    least = 1.5 * (hidden - 0.15) + 6.0
    np.testing.assert_allclose(lines.margins(tf.constant([0]))[0, 1], least[0])
