import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction
from keras_advdef.layers import ParsevalConv2D
from keras_advdef.objectives._double_backward import (
    double_backward,
    is_piecewise_linear,
)

L = keras.layers


def net(*hidden):
    return keras.Sequential([keras.Input((6, 6, 2)), *hidden, L.Flatten(), L.Dense(3)])


def branched():
    inputs = keras.Input((6, 6, 2))
    left = L.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    joined = L.Concatenate()([L.Add()([left, inputs]), L.Subtract()([left, inputs])])
    outputs = L.Dense(3)(L.GlobalAveragePooling2D()(joined))
    return keras.Model(inputs, outputs)


def nested():
    inner = [keras.Input((6, 6, 2)), L.Conv2D(3, 2, activation="leaky_relu")]
    return net(keras.Sequential(inner), L.MaxPooling2D())


KNOWN = {
    "dense": lambda: net(L.Flatten(), L.Dense(5, activation="relu")),
    "convolution": lambda: net(L.Conv2D(3, 3, strides=2), L.ReLU()),
    "depthwise": lambda: net(L.DepthwiseConv2D(3, activation="relu6")),
    "transposed": lambda: net(L.Conv2DTranspose(2, 3, strides=2), L.LeakyReLU()),
    "pools": lambda: net(
        L.Conv2D(4, 2), L.Activation("relu"), L.AveragePooling2D(2), L.MaxPooling2D()
    ),
    "moved": lambda: net(
        L.Rescaling(2.0, -1.0),
        L.ZeroPadding2D(),
        L.Cropping2D(((0, 1), (1, 0))),
        L.Permute((2, 1, 3)),
        L.Dropout(0.5),
        L.Conv2D(3, 3, activation="relu"),
    ),
    "branched": branched,
    "nested": nested,
}
UNKNOWN = {
    "curved": lambda: net(L.Conv2D(3, 3, activation="tanh")),
    "normalised": lambda: net(L.BatchNormalization()),
    "divided": lambda: net(ParsevalConv2D(3, 3)),
    # Keras compiles it by itself, out of sight of tapes that come later.
    "grouped": lambda: net(L.Conv2D(4, 3, groups=2)),
    "half": lambda: net(L.Conv2D(3, 3, dtype="mixed_float16")),
    "softmax": lambda: keras.Sequential(
        [keras.Input((4,)), L.Dense(3, activation="softmax")]
    ),
    "product": lambda: keras.Model(
        inputs := keras.Input((4,)), L.Dense(3)(inputs) * L.Dense(3)(inputs)
    ),
}


def squares(images):
    """Returns a function of slopes that mixes images, classes and pixels."""

    def compute(logits_fn, part):
        share = 1.0 / (1.0 + tf.cast(part, tf.float32))
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = logits_fn(images)
            mixed = tf.reduce_sum(logits * [1.0, -2.0 * share, 0.5])
        slopes = tape.gradient(mixed, images)
        return tf.reduce_sum(slopes**2 + slopes, axis=[1, 2, 3])

    return compute


def value_and_gradients(model, images, *, whole, parts=1):
    weights = model.trainable_weights
    with tf.GradientTape() as tape:
        compute, start = squares(images), tf.zeros(len(images))
        if whole:
            logits_fn = LogitsFunction(model)
            value = tf.add_n([compute(logits_fn, part) for part in range(parts)])
        else:
            value = double_backward(model, compute, start, parts=parts)
        # Images must not count alike, or one gradient could stand for another's.
        total = tf.reduce_sum(value * tf.range(1.0, len(images) + 1))
    gradients = tape.gradient(total, [each.value for each in weights])
    return value, [
        tf.zeros(weight.shape) if gradient is None else gradient
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return tf.constant(generator.uniform(size=(3, 6, 6, 2)), tf.float32)


def check_derivatives(model, images, *, compiled, parts):
    expected = value_and_gradients(model, images, whole=True, parts=parts)

    def ours():
        return value_and_gradients(model, images, whole=False, parts=parts)

    run = tf.function(ours, jit_compile=compiled == "xla") if compiled else ours
    found = run()
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert max(np.abs(each).max() for each in expected[1]) > 1e-2
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("compiled", ["", "graph"], ids=["eager", "graph"])
def test_derivatives_are_those_of_the_whole_pass(kind, compiled, images):
    keras.utils.set_random_seed(0)
    model = KNOWN[kind]()
    assert is_piecewise_linear(model)
    check_derivatives(model, images, compiled=compiled, parts=1)


@pytest.mark.parametrize("build", [KNOWN["convolution"], UNKNOWN["curved"]])
@pytest.mark.parametrize("compiled", ["", "graph", "xla"])
def test_parts_add_up_to_the_whole(build, compiled, images):
    keras.utils.set_random_seed(0)
    check_derivatives(build(), images, compiled=compiled, parts=3)


@pytest.mark.parametrize("build", [KNOWN["convolution"], UNKNOWN["curved"]])
def test_graphs_do_not_grow_with_the_parts(build, images):
    def operations(parts):
        model = build()
        graph = (
            tf.function(
                lambda: value_and_gradients(model, images, whole=False, parts=parts)
            )
            .get_concrete_function()
            .graph
        )
        inner = [each.graph for each in graph._functions.values()]
        return sum(len(each.get_operations()) for each in (graph, *inner))

    assert operations(2) == operations(200)


def test_frozen_layers_are_passed(images):
    keras.utils.set_random_seed(0)
    model = KNOWN["convolution"]()
    model.layers[0].trainable = False
    expected = value_and_gradients(model, images, whole=True)[1]
    found = value_and_gradients(model, images, whole=False)[1]
    assert len(found) == 2
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)


def test_no_gradient_of_the_pass_itself_is_computed(images):
    def count(whole):
        model = KNOWN["convolution"]()
        graph = tf.function(
            lambda: value_and_gradients(model, images, whole=whole)[1]
        ).get_concrete_function()
        kinds = [operation.type for operation in graph.graph.get_operations()]
        return kinds.count("Conv2DBackpropFilter")

    assert count(whole=False) < count(whole=True)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_known_is_differentiated_whole(kind):
    model = UNKNOWN[kind]()
    assert not is_piecewise_linear(model)


def test_curved_nets_keep_their_whole_derivative(images):
    keras.utils.set_random_seed(0)
    model = UNKNOWN["curved"]()
    expected = value_and_gradients(model, images, whole=True)
    found = value_and_gradients(model, images, whole=False)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_low_rank_updates_are_not_passed_by():
    layer = L.Dense(3)
    model = keras.Sequential([keras.Input((4,)), layer])
    assert is_piecewise_linear(model)
    layer.enable_lora(2)
    assert not is_piecewise_linear(model)


def test_losses_of_the_layers_stay():
    layer = L.Dense(3, activity_regularizer="l2")
    model = keras.Sequential([keras.Input((6, 6, 2)), L.Flatten(), layer])
    images = tf.ones((2, 6, 6, 2))
    model(images)
    before = [float(each) for each in model.losses]
    double_backward(model, squares(3.0 * images), tf.zeros(2), parts=2)
    assert [float(each) for each in model.losses] == before
    assert len(before) == 1
