import keras
import numpy as np
import pytest

from keras_advdef.constraints import Parseval
from keras_advdef.layers import ParsevalConv2D

CONTRACT = "it is the convolution of Keras, and draws nothing"


def enlargement(layer, shape):
    """The largest singular value of a layer without bias, as a matrix."""
    count = int(np.prod(shape))
    basis = np.eye(count, dtype="float32").reshape(count, *shape)
    outputs = np.asarray(layer(basis) - layer(0 * basis)).reshape(count, -1)
    return np.linalg.svd(outputs, compute_uv=False)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"filters": 6, "kernel_size": 3, "padding": "same"},
        {"filters": 40, "kernel_size": 3},
        {"filters": 2, "kernel_size": (5, 2), "strides": 2},
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    ],
    ids=str,
)
def test_enlarges_nothing_at_an_orthonormal_kernel(options):
    layer = ParsevalConv2D(**options)
    assert enlargement(layer, (9, 7, 3)) <= 1.0 + 1e-4
    rows, columns = layer.kernel_size
    matrix = np.reshape(layer.kernel, (-1, layer.filters))
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), 1, atol=1e-5)
    # Without the factor, it may reach the square root of the window size.
    plain = keras.layers.Conv2D(**options)
    plain.build((None, 9, 7, 3))
    plain.kernel.assign(layer.kernel)
    root = np.sqrt(rows * columns)
    found = enlargement(plain, (9, 7, 3))
    assert found == pytest.approx(root * enlargement(layer, (9, 7, 3)), rel=1e-4)


def test_is_the_convolution_divided_but_for_its_bias():
    layer = ParsevalConv2D(4, 3, bias_initializer="ones", activation="relu")
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype("float32")
    result = layer(images)
    expected = keras.ops.relu(keras.ops.conv(images, layer.kernel / 3) + 1)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_constraint_and_start_may_be_others():
    layer = ParsevalConv2D(4, 3)
    assert isinstance(layer.kernel_constraint, Parseval)
    own = ParsevalConv2D(
        4, 3, kernel_initializer="zeros", kernel_constraint=Parseval(beta=0.5)
    )
    copy = ParsevalConv2D.from_config(own.get_config())
    assert copy.kernel_constraint.beta == 0.5
    assert isinstance(copy.kernel_initializer, keras.initializers.Zeros)


def test_saves_in_a_model(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), ParsevalConv2D(2, 3)])
    model.save(tmp_path / "model.keras")
    images = np.ones((1, 8, 8, 1), "float32")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(images), model(images))
