import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.constraints import Parseval
from keras_advdef.layers import ConvexCombination, ParsevalConv2D
from keras_advdef.surgery import parseval_network
from tests.support.surgery_nets import Subclassed, branched_net


def residual_net():
    """Convolutions of all kinds, a residual addition, no normalisation."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Add(name="residual")([x, y])
    x = layers.Conv2DTranspose(3, 3, padding="same")(x)
    x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def test_enlarges_no_difference():
    net = residual_net()
    network = parseval_network(net)
    generator = np.random.default_rng(0)
    one = generator.uniform(size=(64, 8, 8, 2)).astype("float32")
    for scale in (1.0, 1e-2):
        other = one + scale * generator.normal(size=one.shape).astype("float32")
        moved = np.linalg.norm(network(one) - network(other), axis=1)
        way = np.linalg.norm((one - other).reshape(64, -1), axis=1)
        assert (moved <= way * (1 + 1e-4)).all()
    # The original net does increase distances, so the test can fail.
    way = np.linalg.norm((one - other).reshape(64, -1), axis=1)
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(3 * layer.kernel)
    assert (np.linalg.norm(net(one) - net(other), axis=1) > way).any()


def test_parts_of_the_recipe():
    network = parseval_network(residual_net(), beta=0.2, steps=2)
    assert isinstance(network.get_layer("residual"), ConvexCombination)
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(ParsevalConv2D) == 1
    assert kinds.count(keras.layers.Rescaling) == 2
    constraints = [
        variable.constraint
        for variable in network.trainable_variables
        if isinstance(variable.constraint, Parseval)
    ]
    assert [each.depthwise for each in constraints] == [False, True, False, False]
    assert {(each.beta, each.steps) for each in constraints} == {(0.2, 2)}


def test_leaves_the_model_alone_and_survives_training_and_saving(tmp_path):
    net = residual_net()
    before = net.get_weights()
    network = parseval_network(net, beta=0.5)
    network.compile(keras.optimizers.SGD(0.5), "mse")
    generator = np.random.default_rng(1)
    x, y = generator.uniform(size=(32, 8, 8, 2)), generator.normal(size=(32, 5))
    network.fit(x, y, epochs=3, verbose=0)
    for one, other in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    matrix = network.layers[-1].kernel
    values = np.linalg.svd(matrix, compute_uv=False)
    assert ((values > 0.9) & (values < 1.1)).all()
    network.save(tmp_path / "network.keras")
    copy = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(copy(x), network(x), atol=1e-6)


def test_nested_and_shared_layers():
    inputs = keras.Input((9, 5, 2))
    shared = keras.layers.Conv2D(3, 3, padding="same")
    block = keras.Sequential([keras.Input((9, 5, 3)), keras.layers.Conv2D(3, 1)])
    x = block(shared(inputs))
    x = keras.layers.Add()([x, block(shared(inputs))])
    network = parseval_network(keras.Model(inputs, keras.layers.Flatten()(x)))
    flat = list(network._flatten_layers())
    assert sum(isinstance(layer, ParsevalConv2D) for layer in flat) == 2


def test_channels_of_a_depthwise_kernel_are_orthonormal():
    layer = keras.layers.DepthwiseConv2D(2, depth_multiplier=3)
    net = keras.Sequential([keras.Input((6, 6, 5)), layer])
    kernel = parseval_network(net).layers[-1].kernel
    matrices = np.moveaxis(np.reshape(kernel, (4, 5, 3)), 1, 0)
    for matrix in matrices:
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-5)


def test_bad_input():
    def with_sum():
        inputs = keras.Input((4,))
        return keras.Model(inputs, inputs + keras.layers.Dense(4)(inputs))

    regularized = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, kernel_regularizer="l2")]
    )
    with pytest.raises(ValueError, match="no `kernel_regularizer`"):
        parseval_network(regularized)
    with pytest.raises(ValueError, match=r"Replace `.*` by `keras\.layers\.Add\(\)`"):
        parseval_network(with_sum())
    with pytest.raises(ValueError, match="dense or conv layer"):
        parseval_network(keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]))
    with pytest.raises(ValueError, match="`Parseval` expects `beta`"):
        parseval_network(residual_net(), beta=0.0)
    hidden = Subclassed()
    hidden(tf.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"built `keras\.Sequential` or functional"):
        parseval_network(hidden)


def test_subtracting_a_number_is_not_an_addition():
    assert parseval_network(branched_net()).name == "branched"
