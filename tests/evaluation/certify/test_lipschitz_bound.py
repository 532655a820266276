import keras
import numpy as np
import pytest

from keras_advdef.evaluation._certify.lipschitz_bound import lipschitz_bound
from keras_advdef.layers import (
    ConvexCombination,
    JPEGCompression,
    ParsevalConv2D,
    VariationalDense,
)

LAYERS = keras.layers


def one_layer(layer, shape=(8, 6, 2)):
    return keras.Sequential([keras.Input(shape), layer])


def exact(net):
    """The largest singular value of a linear net, as a matrix."""
    shape = net.input_shape[1:]
    count = int(np.prod(shape))
    basis = np.eye(count, dtype="float32").reshape(count, *shape)
    outputs = np.asarray(net(basis) - net(0 * basis)).reshape(count, -1)
    return np.linalg.svd(outputs, compute_uv=False)[0]


LINEAR = {
    "dense": lambda: LAYERS.Dense(5),
    "conv": lambda: LAYERS.Conv2D(4, 3, padding="same"),
    "strided": lambda: LAYERS.Conv2D(4, 3, strides=2),
    "dilated": lambda: LAYERS.Conv2D(3, 3, dilation_rate=2, padding="same"),
    "depthwise": lambda: LAYERS.DepthwiseConv2D(3, depth_multiplier=2),
    "transposed": lambda: LAYERS.Conv2DTranspose(3, 3, strides=2),
    "parseval": lambda: ParsevalConv2D(4, 3),
    "mean": lambda: LAYERS.AveragePooling2D(2),
    "overlapping mean": lambda: LAYERS.AveragePooling2D(3, strides=2, padding="same"),
    "global mean": LAYERS.GlobalAveragePooling2D,
    "rescaling": lambda: LAYERS.Rescaling(-3.0, 1.0),
    "normalization": lambda: LAYERS.Normalization(
        mean=[0.1, 0.2], variance=[4.0, 0.25]
    ),
    "padding": lambda: LAYERS.ZeroPadding2D(1),
    "flatten": LAYERS.Flatten,
    "dropout": lambda: LAYERS.Dropout(0.5),
}
# Where the bound is the norm itself.
SHARP = {"dense", "mean", "rescaling", "normalization", "padding", "flatten", "dropout"}


@pytest.mark.parametrize("name", LINEAR)
def test_bounds_linear_layers(name):
    net = one_layer(LINEAR[name]())
    bound, norm = lipschitz_bound(net), exact(net)
    assert norm <= bound * (1 + 1e-5)
    if name in SHARP:
        assert bound == pytest.approx(norm, rel=1e-4)
    else:
        assert bound < 4 * norm * np.sqrt(8 * 6 if name == "global mean" else 1)


NONLINEAR = {
    "relu": LAYERS.ReLU,
    "leaky": lambda: LAYERS.LeakyReLU(negative_slope=0.3),
    "tanh": lambda: LAYERS.Activation("tanh"),
    "sigmoid": lambda: LAYERS.Activation("sigmoid"),
    "maxima": lambda: LAYERS.MaxPooling2D(2),
    "overlapping maxima": lambda: LAYERS.MaxPooling2D(3, strides=1),
    "fused": lambda: LAYERS.Conv2D(3, 3, activation="elu"),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_bounds_differences(name):
    net = one_layer(NONLINEAR[name]())
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 200, 8, 6, 2)).astype("float32")
    for second in (other, one + 1e-2 * other):
        moved = np.asarray(net(one) - net(second)).reshape(200, -1)
        way = np.linalg.norm((one - second).reshape(200, -1), axis=1)
        ratios = np.linalg.norm(moved, axis=1) / way
        assert ratios.max() <= lipschitz_bound(net) * (1 + 1e-4)


def test_branches_meet():
    inputs = keras.Input((4,))
    double, triple = LAYERS.Rescaling(2.0)(inputs), LAYERS.Rescaling(3.0)(inputs)

    def bound(layer):
        return lipschitz_bound(keras.Model(inputs, layer([double, triple])))

    assert bound(LAYERS.Add()) == pytest.approx(5.0)
    assert bound(LAYERS.Average()) == pytest.approx(2.5)
    assert bound(LAYERS.Subtract()) == pytest.approx(5.0)
    assert bound(LAYERS.Concatenate()) == pytest.approx(np.sqrt(13))
    combination = ConvexCombination()
    combination.build([(None, 4), (None, 4)])
    combination.shares.assign([0.25, 0.75])
    assert bound(combination) == pytest.approx(2.75)


def test_nested_models_multiply():
    inner = keras.Sequential([keras.Input((4,)), LAYERS.Rescaling(2.0)])
    outer = keras.Sequential([keras.Input((4,)), LAYERS.Rescaling(3.0), inner])
    assert lipschitz_bound(outer) == pytest.approx(6.0)


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS.BatchNormalization(),
        LAYERS.ReLU(threshold=0.5),
        LAYERS.Activation("softmax"),
        LAYERS.LayerNormalization(),
        JPEGCompression(75),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_without_a_bound_are_named(layer):
    with pytest.raises(ValueError, match=f"`{layer.name}`"):
        lipschitz_bound(one_layer(layer, (8, 8, 3)))


def test_several_inputs_are_refused():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    with pytest.raises(ValueError, match="with one input and one output"):
        lipschitz_bound(keras.Model(inputs, LAYERS.Add()(inputs)))


def test_dense_nets_have_the_product_of_their_largest_values():
    dense = [LAYERS.Dense(9, activation="relu"), LAYERS.Dense(5, activation="relu")]
    net = keras.Sequential([keras.Input((6,)), *dense, LAYERS.Dense(3)])
    bound = lipschitz_bound(net)
    largest = [np.linalg.svd(w, compute_uv=False)[0] for w in net.get_weights()[::2]]
    assert bound == pytest.approx(np.prod(largest), rel=1e-5)
    one, other = np.random.default_rng(0).normal(size=(2, 300, 6)).astype("float32")
    moved = np.linalg.norm(net(one) - net(other), axis=1)
    assert (moved <= bound * np.linalg.norm(one - other, axis=1) * (1 + 1e-5)).all()


class Steep(LAYERS.Dense):
    """A layer that is one of Keras's by its class alone."""

    def call(self, inputs, training=None):
        return 100 * super().call(inputs, training=training)


@pytest.mark.parametrize(
    "layer",
    [VariationalDense(2), Steep(2), LAYERS.Dense(2, dtype="mixed_float16")],
    ids=lambda each: type(each).__name__,
)
def test_random_own_and_half_layers_have_no_bound(layer):
    with pytest.raises(ValueError, match=f"`{layer.name}`"):
        lipschitz_bound(one_layer(layer, (4,)))
