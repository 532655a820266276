import math

import keras
import pytest

from keras_advdef.core.generators import check_critic, latent_shapes


def _generator(latents=(5,), *, shape=(2, 2, 3)):
    layers = keras.layers
    dense, reshape = layers.Dense(math.prod(shape)), layers.Reshape(shape)
    return keras.Sequential([keras.Input(latents), layers.Flatten(), dense, reshape])


def _critic(shape=(2, 2, 3), *, units=1):
    layers = keras.layers
    return keras.Sequential(
        [keras.Input(shape), layers.GlobalAveragePooling2D(), layers.Dense(units)]
    )


def _two_inputs():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    added = keras.layers.Add()(inputs)
    return keras.Model(inputs, keras.layers.Reshape((1, 2, 1))(added))


def test_shapes_of_sequential_and_functional_models():
    generator = _generator()
    assert latent_shapes("Owner", generator) == (5, (2, 2, 3))
    inputs = keras.Input((5,))
    functional = keras.Model(inputs, generator(inputs))
    assert latent_shapes("Owner", functional) == (5, (2, 2, 3))


@pytest.mark.parametrize(
    ("generator", "rule"),
    [
        (lambda: None, "a built `keras.Sequential`.*Received: generator=None"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "Start it with a"),
        (lambda: _generator((2, 5)), r"of latents.*generator=\(None, 2, 5\)"),
        (_two_inputs, "of latents"),
        (lambda: _generator(shape=(12,)), r"gives images.*generator=\(None, 12\)"),
    ],
)
def test_rejects_what_is_no_generator(generator, rule):
    with pytest.raises(ValueError, match=f"`Owner` expects `generator` to be .*{rule}"):
        latent_shapes("Owner", generator())


@pytest.mark.parametrize("shape", [(2, 2, 3), (None, None, 3)])
def test_critics_that_fit_pass(shape):
    check_critic("Owner", _critic(shape), (2, 2, 3))


@pytest.mark.parametrize(
    ("critic", "rule"),
    [
        (lambda: "critic", "a built `keras.Sequential`"),
        (lambda: _critic((2, 2, 1)), r"\(batch, 2, 2, 3\).*critic=\(None, 2, 2, 1\)"),
        (_two_inputs, "of the generator's images"),
        (lambda: _critic(units=2), r"ends in one unit, .*critic=\(None, 2\).*Dense"),
    ],
)
def test_rejects_what_is_no_critic(critic, rule):
    with pytest.raises(ValueError, match=f"`Owner` expects `critic` to be .*{rule}"):
        check_critic("Owner", critic(), (2, 2, 3))
