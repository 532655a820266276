import keras
import numpy as np
import pytest

from keras_advdef.layers import VariationalDense
from keras_advdef.surgery import split_activation
from keras_advdef.surgery.split_activation import fused_activation


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Dense(3, activation="relu6"), (2, 4)),
        (keras.layers.Conv2D(3, 3, activation="relu"), (2, 5, 6, 1)),
        (keras.layers.DepthwiseConv2D(3, activation="tanh"), (2, 5, 6, 2)),
        (keras.layers.SeparableConv2D(3, 3, activation="elu"), (2, 5, 6, 2)),
        (keras.layers.Conv2DTranspose(3, 3, activation="relu"), (2, 5, 6, 1)),
        (keras.layers.EinsumDense("ab,bc->ac", 3, activation="relu"), (2, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_both_parts_make_the_layer(layer, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted = layer(inputs)
    linear, activation = split_activation(layer)
    outputs = linear(inputs)
    np.testing.assert_allclose(activation(outputs), wanted, rtol=1e-6)
    assert not np.allclose(outputs, wanted)
    assert [id(v) for v in linear.variables] == [id(v) for v in layer.variables]
    assert linear.name == layer.name
    assert fused_activation(linear) is None


def test_dtype_goes_along():
    layer = keras.layers.Dense(3, activation="relu", dtype="mixed_float16")
    layer.build((None, 4))
    parts = split_activation(layer)
    assert {part.compute_dtype for part in parts} == {"float16"}


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(3),
        keras.layers.ReLU(),
        keras.layers.Activation("relu"),
        keras.layers.LSTM(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_nothing_to_take_out(layer):
    assert split_activation(layer) == [layer]


def test_variational_keeps_its_divergence():
    layer = VariationalDense(3, activation="relu", kl_weight=0.5)
    layer.build((None, 4))
    linear, _ = split_activation(layer)
    model = keras.Sequential([keras.Input((4,)), linear])
    (loss,) = model.losses
    np.testing.assert_allclose(loss, 0.5 * layer.kl_divergence(), rtol=1e-6)
