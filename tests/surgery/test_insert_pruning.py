import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.layers import StochasticActivationPruning
from keras_advdef.surgery import insert_pruning
from tests.support.nets import small_net
from tests.support.surgery_nets import branched_net


def prunings(model):
    return [
        layer
        for layer in flat_layers(model)
        if isinstance(layer, StochasticActivationPruning)
    ]


def test_where_and_how_much():
    pruned = insert_pruning(small_net(), fraction=0.5, sampling="bernoulli")
    kinds = [type(layer).__name__ for layer in pruned.layers]
    assert [index for index, kind in enumerate(kinds) if "Pruning" in kind] == [1, 4]
    assert {layer.fraction for layer in prunings(pruned)} == {0.5}
    assert {layer.sampling for layer in prunings(pruned)} == {"bernoulli"}


def test_every_kind_of_relu():
    net = branched_net()
    pruned = insert_pruning(net)
    # Fused in the shared convolution, a layer in the nested net, and an operation.
    assert len(prunings(pruned)) == 3
    assert prunings(net) == []


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (keras.layers.ReLU(), 1),
        (keras.layers.ReLU(6.0), 1),
        (keras.layers.Activation("relu6"), 1),
        (keras.layers.Dense(2, activation="relu", name="first"), 1),
        (keras.layers.ReLU(negative_slope=0.1), 0),
        (keras.layers.Activation("tanh"), 0),
        (keras.layers.Dense(2, activation="softmax", name="first"), 0),
    ],
)
def test_what_is_a_relu(layer, count):
    tail = keras.layers.Dense(2, activation="relu")
    net = keras.Sequential([keras.Input((4,)), layer, tail])
    assert len(prunings(insert_pruning(net))) == count + 1


def test_many_draws_prune_little():
    net = small_net()
    pruned = insert_pruning(net, fraction=1000.0)
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(pruned(images), net(images), atol=1e-3)


def test_bad_input():
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="a model with a ReLU"):
        insert_pruning(net)
    with pytest.raises(ValueError, match="fraction"):
        insert_pruning(small_net(), fraction=0.0)


def inverted_residual_net():
    """A block of a MobileNetV2."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(6, 1)(inputs)))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Add()([inputs, layers.Conv2D(3, 1)(x)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def mobile_net():
    return keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=5
    )


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (inverted_residual_net, 2),
        pytest.param(mobile_net, 35, marks=pytest.mark.nightly),
    ],
)
def test_mobile_nets_are_served(make, count, tmp_path):
    net = make()
    pruned = insert_pruning(net, sampling="bernoulli")
    assert len(prunings(pruned)) == count
    assert {id(v) for v in net.trainable_variables} == {
        id(v) for v in pruned.trainable_variables
    }
    images = np.random.default_rng(0).uniform(size=(2, *net.input_shape[1:]))
    images = images.astype("float32")
    outputs = pruned.predict(images, verbose=0)
    np.testing.assert_allclose(outputs.sum(axis=1), 1.0, rtol=1e-5)
    pruned.export(tmp_path / "served", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "served", call_endpoint="serve")
    assert np.array(served(images)).shape == (2, 5)


def test_relu_of_functions():
    inputs = keras.Input((4,))
    outputs = keras.activations.relu(keras.layers.Dense(3)(inputs))
    for function in (keras.ops.relu, tf.nn.relu, keras.ops.relu6):
        outputs = keras.layers.Dense(3, activation=function)(outputs)
    leaky = keras.activations.relu(outputs, negative_slope=0.1)
    net = keras.Model(inputs, keras.layers.Dense(2, activation="relu")(leaky))
    assert len(prunings(insert_pruning(net))) == 5


def test_names_are_new_in_a_model_that_was_pruned():
    pruned = insert_pruning(insert_pruning(small_net()))
    names = [layer.name for layer in pruned.layers]
    assert len(set(names)) == len(names)
