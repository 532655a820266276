import keras
import numpy as np
import pytest

from keras_advdef.evaluation._certify.one_hidden_layer import taken_apart


@pytest.mark.parametrize("activation", ["softplus", "relu", "elu", "exponential"])
def test_parts_have_the_slopes_of_the_net(activation):
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((3, 2, 1)),
            layers.Rescaling(2.0, -1.0),
            layers.Flatten(),
            layers.Dense(5, bias_initializer="normal"),
            layers.Rescaling(3.0),
            layers.Activation(activation),
            layers.Rescaling(0.5, 1.0),
            layers.Dense(4),
        ]
    )
    parts = taken_apart(net)
    image = np.random.default_rng(0).uniform(size=(1, 3, 2, 1)).astype("float32")
    hidden = image.reshape(6) @ parts.first + parts.bias
    slopes = (parts.first * parts.slope(hidden)) @ parts.last
    moved = np.repeat(image, 6, axis=0)
    moved[np.arange(6), np.arange(6) // 2, np.arange(6) % 2] += 1e-2
    expected = (net(moved) - net(2 * image - moved)).numpy() / 2e-2
    np.testing.assert_allclose(slopes, expected, rtol=0.02, atol=2e-3)


def test_a_linear_net_has_a_hidden_layer_of_its_logits():
    net = keras.Sequential(
        [keras.Input((2, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    parts = taken_apart(net)
    np.testing.assert_array_equal(parts.last, np.eye(3))
    np.testing.assert_allclose(parts.first, net.layers[1].kernel)
