import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.evaluation._plan.offending_operations import (
    defective,
    misleading_operations,
    offending_operations,
)
from tests.support import masked_nets


class _Counts(keras.layers.Layer):
    """Lets no gradient through and changes the shape."""

    def call(self, inputs):
        return tf.round(tf.reduce_sum(inputs, axis=(1, 2)))


def found(model, images):
    images = tf.constant(images)
    same, other = offending_operations(model, lambda: model(images))
    return [each.name for each in same], [each.name for each in other]


def test_honest_nets_have_none(net, trained_net, images):
    assert found(net, images) == ([], [])
    assert found(trained_net, images) == ([], [])


@pytest.mark.parametrize(
    ("mask", "name"), [("quantised", "rounding"), ("stopped", "wall")]
)
def test_layers_are_found(mask, name, net, images):
    assert found(getattr(masked_nets, mask)(net), images) == ([name], [])


def test_steep_softmax_is_found(trained_net, digits):
    model = masked_nets.steep(trained_net)
    assert found(model, digits.x_test[:20]) == ([model.layers[-1].name], [])


def test_bare_operations_are_found(images):
    inputs = keras.Input((8, 8, 1))
    rounded = keras.ops.round(4 * inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(rounded))
    same, other = found(keras.Sequential([model]), images)
    assert len(same) == 1
    assert same[0].startswith("round")
    assert other == []


def test_other_shapes_come_apart(images):
    counts = _Counts(name="counts")
    model = keras.Sequential([keras.Input((8, 8, 1)), counts, keras.layers.Dense(3)])
    assert found(model, images) == ([], ["counts"])


def test_calls_are_given_back(net, images):
    model = masked_nets.quantised(net)
    found(model, images)
    assert not [layer for layer in model.layers if "call" in vars(layer)]


def test_functions_have_no_operations():
    assert offending_operations(len, lambda: None) == ([], [])


def test_defective():
    gradient = tf.constant([[0.0, 1.0], [0.0, 0.0], [np.inf, 1.0], [np.nan, 0.0]])
    assert defective(gradient, 4).tolist() == [False, True, True, True]
    assert defective(None, 2).tolist() == [True, True]


class _Disguised(keras.layers.Layer):
    """Does something, with the gradient of something else."""

    def __init__(self, function, other, **kwargs):
        super().__init__(**kwargs)
        self._function, self._other = function, other

    def call(self, inputs):
        other = self._other(inputs)
        return other + tf.stop_gradient(self._function(inputs) - other)


def misleading(model, images):
    images = tf.constant(images)
    return [each.name for each in misleading_operations(model, lambda: model(images))]


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "sigmoid"])
def test_honest_nets_do_not_mislead(activation, images):
    layers = [
        keras.Input(images.shape[1:]),
        keras.layers.Conv2D(1, 3, padding="same", activation=activation),
        keras.layers.BatchNormalization(),
        keras.layers.Activation(activation),
    ]
    assert misleading(keras.Sequential(layers), images) == []


@pytest.mark.parametrize(
    ("function", "other"),
    [
        (tf.identity, tf.negative),
        (tf.identity, lambda x: tf.roll(x, 1, axis=1)),
        (lambda x: x + tf.sin(1e4 * x), lambda x: x + tf.sin(1e4 * x)),
    ],
    ids=["flipped", "moved", "rippled"],
)
def test_false_backward_passes_mislead(function, other, net, images):
    front = _Disguised(function, other, name="front")
    model = keras.Sequential([keras.Input(images.shape[1:]), front, net])
    assert misleading(model, images) == ["front"]
