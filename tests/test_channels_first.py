"""Results with the channels first equal those with the channels last."""

import keras
import numpy as np
import pytest

import keras_advdef as advdef
from keras_advdef.evaluation._measure.gallery import Gallery
from tests.support.generators import small_generator

FIRST = {"data_format": "channels_first"}


@pytest.fixture
def channels_first():
    """Makes channels first Keras's default for the layers made meanwhile."""
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.fixture
def colours():
    generator = np.random.default_rng(3)
    return generator.uniform(0.05, 0.95, (4, 9, 8, 3)).astype("float32")


def first(images):
    """The same images with the channels first."""
    return np.moveaxis(np.asarray(images), -1, 1)


def transform(name, **arguments):
    """Makes an input transformation, with a generator of such images if needed."""
    if name == "GenerativeProjection":
        generator = small_generator((9, 8, 3))
        if "data_format" in arguments:
            generator.add(keras.layers.Permute((3, 1, 2)))
        arguments["generator"] = generator
    return getattr(advdef.layers, name)(seed=4, **arguments)


TRANSFORMS = {
    "BitDepthReduction": {"bits": 2},
    "JPEGCompression": {"quality": 50},
    "MedianSmoothing": {"size": 3},
    "NonLocalMeans": {"strength": 0.2},
    "TotalVariationMinimization": {"keep_probability": 0.7, "steps": 5},
    "RandomResizePad": {"output_size": 12, "min_size": 9, "padding_value": 0.5},
    "ImageQuilting": {"patch_size": 3, "overlap": 1, "neighbors": 2},
    "GenerativeProjection": {"steps": 2, "restarts": 2},
}


def test_every_transformation_is_here():
    bases = advdef.layers.InputTransform
    found = [getattr(advdef.layers, name) for name in advdef.layers.__all__]
    kinds = {e for e in found if isinstance(e, type) and issubclass(e, bases)}
    assert {each.__name__ for each in kinds - {bases}} == set(TRANSFORMS)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformations(name, colours):
    last = transform(name, **TRANSFORMS[name])
    other = transform(name, **TRANSFORMS[name], **FIRST)
    if name == "ImageQuilting":
        last.adapt(colours)
        other.adapt(first(colours))
    expected = first(last(colours))
    found = other(first(colours))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.array_equal(expected, first(colours))
    symbolic = other(keras.Input((3, 9, 8)))
    assert symbolic.shape == (None, *found.shape[1:])
    assert other.get_config()["data_format"] == "channels_first"


def test_size_is_checked_where_it_is(channels_first):
    layer = advdef.layers.MedianSmoothing(3)
    assert layer.data_format == "channels_first"
    assert layer(np.zeros((1, 1, 5, 4), "float32")).shape == (1, 1, 5, 4)
    with pytest.raises(ValueError, match="images of at least 3 x 3 pixels"):
        advdef.layers.MedianSmoothing(3)(np.zeros((1, 5, 4, 1), "float32"))
    with pytest.raises(ValueError, match="images of 1 or 3 channels"):
        advdef.layers.JPEGCompression()(np.zeros((1, 8, 8, 3), "float32"))


def test_other_layers(colours):
    # Variational layers have their own such tests. Noise, pruning and convex
    # combinations do not depend on the order of the axes.
    last, other = (
        advdef.layers.ParsevalConv2D(2, 3, data_format=each)
        for each in ("channels_last", "channels_first")
    )
    expected = last(colours)
    other.build((None, 3, 9, 8))
    other.set_weights(last.get_weights())
    np.testing.assert_allclose(other(first(colours)), first(expected), atol=1e-6)


def net():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((9, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", data_format="channels_last"),
            layers.Flatten(data_format="channels_last"),
            layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    "attack",
    [
        advdef.attacks.FGSM(0.1),
        advdef.attacks.PGD(2.0, norm="l1", steps=3, random_start=False),
        advdef.attacks.DeepFool(steps=3),
        advdef.attacks.Square(0.2, queries=10),
        advdef.attacks.Square(1.0, norm="l2", queries=10),
    ],
    ids=str,
)
def test_attacks(attack, colours, channels_first):
    model = net()
    behind = keras.Sequential(
        [keras.Input((3, 9, 8)), keras.layers.Permute((2, 3, 1)), model]
    )
    labels = model.predict(colours, verbose=0).argmax(axis=1)
    given = {"labels": labels, "seed": 0, "verbose": 0}
    found = attack.generate(behind, first(colours), **given)
    keras.config.set_image_data_format("channels_last")
    expected = attack.generate(model, colours, **given)
    np.testing.assert_allclose(found, first(expected), atol=1e-5)
    assert not np.array_equal(expected, colours)


def test_pictures(colours, channels_first):
    whole = {"labels": np.arange(4), "predicted": np.arange(4), "norms": np.ones(4)}
    gallery = Gallery(clean=first(colours), adversarial=first(colours), **whole)
    np.testing.assert_allclose(gallery.panels(0)[0], colours[0])


def test_corruptions(colours, channels_first):
    model = net()
    behind = keras.Sequential(
        [keras.Input((3, 9, 8)), keras.layers.Permute((2, 3, 1)), model]
    )
    labels = model.predict(colours, verbose=0).argmax(axis=1)
    evaluate = advdef.evaluation.evaluate_corruptions
    found = evaluate(behind, first(colours), labels, severities=[5], verbose=0)
    keras.config.set_image_data_format("channels_last")
    expected = evaluate(model, colours, labels, severities=[5], verbose=0)
    assert found.to_json() == expected.to_json()
    for kind, image in expected.examples.items():
        np.testing.assert_array_equal(found.examples[kind], image)
    assert found.mean["accuracy"] < 1.0
