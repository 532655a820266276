"""The contract of every layer."""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import card_of
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import InputTransform
from tests.support.cases import made
from tests.support.kernels import missing_kernels, missing_kernels_of
from tests.support.modes import compiled_by_xla


def check_layer(cls, arguments, images, *, whole=True) -> None:
    """Puts one layer through the contract on `[0, 1]` images.

    Args:
        cls: The layer's class.
        arguments: Arguments of the constructor.
        images: A few images.
        whole: Whether to check as well what depends on the code of the class and hardly
            on the arguments.
    """
    _check_config(cls, arguments, images)
    _check_shapes(cls, arguments)
    _check_draws(cls, arguments, images)
    _check_graph(made(cls, arguments, images), images, whole=whole)
    is_soft = arguments.get("gradient") in {"soft", "unrolled"}
    layer = made(cls, arguments, images)
    _check_gradients(layer, tf.constant(images), is_soft=is_soft)
    if not whole:
        return
    for function in (layer, lambda x: _input_gradient(layer, x)[0]):
        assert missing_kernels(function, tf.constant(images)) == {}
    _check_in_model(cls, arguments, images)


def _check_config(cls, arguments, images) -> None:
    layer = made(cls, arguments, images, seed=4, name="named")
    config = json.loads(json.dumps(layer.get_config()))
    copy = cls.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config
    for name, value in arguments.items():
        assert getattr(copy, name) == value
    assert keras.saving.get_registered_object(f"keras_advdef>{cls.__name__}") is cls


def _check_shapes(cls, arguments) -> None:
    for shape in ((1, 33, 17, 1), (2, 16, 16, 3)):
        for dtype in ("float32", "float16"):
            inputs = np.random.default_rng(1).uniform(0, 1, shape).astype(dtype)
            layer = made(cls, arguments, inputs)
            outputs = layer(tf.constant(inputs))
            assert outputs.dtype == (dtype if layer.autocast is False else "float32")
            assert tuple(outputs.shape) == tuple(layer.compute_output_shape(shape))
            if isinstance(layer, InputTransform):
                assert float(tf.reduce_min(outputs)) >= 0.0
                assert float(tf.reduce_max(outputs)) <= 1.0


def _check_draws(cls, arguments, images) -> None:
    first, again, other = (
        made(cls, arguments, images, seed=seed) for seed in (1, 1, 2)
    )
    one, two = first(images), first(images)
    np.testing.assert_array_equal(one, again(images))
    assert bool(np.all(one == two)) is not first.draws
    assert bool(np.all(one == other(images))) is not first.draws
    np.testing.assert_array_equal(again(images), two)
    if first.draws:
        same = np.repeat(images[:1], len(images), axis=0)
        assert np.ptp(first(same), axis=0).max() > 0, "one draw for the whole batch"


def _check_graph(layer, images, *, whole) -> None:
    layer(images)
    compiled = tf.function(_with_key(layer)).get_concrete_function(
        tf.constant(images), make_key(5)
    )
    assert missing_kernels_of(compiled) == {}
    _check_same(layer, compiled, images)
    if whole:
        _check_same(layer, compiled_by_xla(compiled), images)


def _with_key(layer):
    """The layer as a function of inputs and the key of its draws."""

    def call(inputs, key):
        with draw_scope(key):
            return layer(inputs)

    return call


def _check_same(layer, compiled, images) -> None:
    """A compiled function gives what the layer gives eagerly, and changes no state."""
    before = [np.array(variable) for variable in layer.variables]
    eager = _with_key(layer)(tf.constant(images), make_key(5))
    result = compiled(tf.constant(images), make_key(5))
    np.testing.assert_allclose(result, eager, atol=2e-6)
    other = compiled(tf.constant(images), make_key(6))
    assert bool(np.all(other == result)) is not layer.draws
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def _input_gradient(layer, images, key=3):
    with draw_scope(make_key(key)), tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = tf.reduce_sum(layer(images) ** 2)
        gradient = tape.gradient(value, images)
        squared = tf.reduce_sum(gradient**2)
    return gradient, outer.gradient(squared, images)


def _check_identity(layer, images) -> None:
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = tf.reduce_sum(3.0 * layer(images))
    slope = tape.gradient(value, images)
    np.testing.assert_array_equal(slope, np.full(images.shape, 3.0))


def _check_gradients(layer, images, *, is_soft) -> None:
    gradient, second = _input_gradient(layer, images)
    assert gradient is not None
    assert second is not None
    card = card_of(layer)
    if card.gradient == "straight-through" and not is_soft:
        _check_identity(layer, images)
    for each in (gradient, second):
        assert np.isfinite(each).all()
        assert np.mean(np.asarray(each) != 0) > 0.3


def _check_in_model(cls, arguments, images) -> None:
    """Trains in mixed precision from tf.data, and checks what the layer received."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            made(cls, arguments, images, dtype="mixed_float16"),
            keras.layers.GlobalAveragePooling2D(dtype="mixed_float16"),
            keras.layers.Dense(3, dtype="mixed_float16"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=True)
    # A first step that creates variables is traced twice.
    model.optimizer.build(model.trainable_variables)
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(len(images)) % 3))
    history = model.fit(data.batch(4), epochs=1, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    mapped = data.map(lambda x, y: model.layers[0](x[None])).take(1)
    assert next(iter(mapped)).dtype.is_floating
