import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.core.logits import LogitsFunction, classifier_logits
from keras_advdef.core.model_inputs import (
    add_channels,
    call_classifier,
    check_image_shape,
    single_input,
)


class Subclassed(keras.Model):
    """A subclassed model of maps `(batch, 8, 8)`."""

    def __init__(self):
        super().__init__()
        self.recurrent = keras.layers.SimpleRNN(4)
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        return self.head(self.recurrent(inputs))


def _functional(**arguments):
    inputs = keras.Input((8, 8), name="image")
    outputs = keras.layers.Dense(3, **arguments)(keras.layers.Flatten()(inputs))
    return inputs, outputs


_MAPS = {
    "functional": lambda: keras.Model(*_functional()),
    "sequential": lambda: keras.Sequential(
        [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)]
    ),
    "with channels": lambda: keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    ),
    "subclassed": Subclassed,
}


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(0).uniform(0.2, 0.8, (6, 8, 8)).astype("float32")


@pytest.fixture(scope="module")
def labels():
    return np.arange(6) % 3


class TestImagesWithoutChannels:
    @pytest.mark.parametrize("kind", _MAPS)
    def test_are_attacked_as_they_come(self, kind, maps, labels):
        model, attack = _MAPS[kind](), PGD(0.1, steps=2)
        eager = attack(model, maps, labels, seed=1)
        traced = tf.function(lambda x: attack(model, x, labels, seed=1))(maps)
        arrays = attack.generate(model, maps, labels, seed=1, verbose=0, batch_size=4)
        one = model(maps)
        for found in (eager, traced, arrays):
            assert found.shape == maps.shape
            assert np.abs(found - maps).max() <= 0.1 + 1e-6
            assert np.mean(_losses(model(found), labels) > _losses(one, labels)) == 1
        np.testing.assert_allclose(eager, traced, atol=1e-6)

    def test_as_with_the_axis(self, maps, labels):
        """A model of maps also takes images with one channel, as in Keras."""
        model, attack = _MAPS["functional"](), FGSM(0.1)
        expected = attack.generate(model, maps, labels, seed=1, verbose=0)
        images = maps[..., None]
        found = attack.generate(model, images, labels, seed=1, verbose=0)
        np.testing.assert_array_equal(found[..., 0], expected)
        np.testing.assert_array_equal(attack(model, images, labels, seed=1), found)

    @pytest.mark.parametrize("kind", _MAPS)
    def test_logits(self, kind, maps):
        model = _MAPS[kind]()
        expected = model(maps)
        for images in (maps, maps[..., None]):
            found = LogitsFunction(model)(tf.constant(images))
            np.testing.assert_allclose(found, expected, atol=1e-6)
            found = classifier_logits(model, tf.constant(images))
            np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("shape", "sentence"),
        [
            ((6, 64), r"model of vectors, put `keras.Input\(\(rows, cols, 1\)\)`"),
            ((6, 4, 4, 4, 1), "model of volumes, put .*`keras.layers.Reshape"),
            ((6,), "non-empty array of shape"),
            ((0, 8, 8), "non-empty array of shape"),
            ((6, 8, 9), r"images of the model's input shape, \(None, 8, 8\)"),
            ((6, 8, 8, 3), r"images of the model's input shape, \(None, 8, 8\)"),
        ],
    )
    def test_other_shapes_are_told_what_to_do(self, shape, sentence, labels):
        with pytest.raises(ValueError, match=sentence):
            FGSM(0.1).generate(_MAPS["functional"](), np.ones(shape), labels)

    def test_the_advice_for_vectors_and_volumes_works(self, labels):
        generator = np.random.default_rng(0)
        for shape, inputs, reshape in (
            ((64,), (8, 8, 1), keras.layers.Flatten()),
            ((2, 4, 4, 3), (8, 4, 3), keras.layers.Reshape((2, 4, 4, 3))),
        ):
            layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
            model = keras.Sequential([keras.Input(shape), *layers])
            fronted = keras.Sequential([keras.Input(inputs), reshape, model])
            images = generator.uniform(size=(6, *inputs)).astype("float32")
            found = FGSM(0.1).generate(fronted, images, labels, verbose=0)
            assert np.abs(found - images).max() > 0.09


def _losses(logits, labels):
    return keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    ).numpy()


class TestStructures:
    @pytest.mark.parametrize("structure", ["list", "dictionary"])
    @pytest.mark.parametrize("wrapped", [list, tuple, dict, None])
    def test_of_one(self, structure, wrapped, maps, labels):
        inputs, outputs = _functional(activation="softmax")
        plain = keras.Model(inputs, outputs)
        model = (
            keras.Model([inputs], [outputs])
            if structure == "list"
            else keras.Model({"image": inputs}, {"label": outputs})
        )
        images = maps[..., None]
        given = {"image": images} if wrapped is dict else images
        given = wrapped([images]) if wrapped in (list, tuple) else given
        attack = FGSM(0.1)
        expected = attack(plain, images, labels, seed=1)
        found = attack.generate(model, given, labels, seed=1, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(
            attack(model, given, labels, seed=1), expected, atol=1e-6
        )

    def test_several_inputs(self, maps, labels):
        first, other = keras.Input((8, 8)), keras.Input((8, 8))
        both = keras.layers.Flatten()(keras.layers.Add()([first, other]))
        model = keras.Model([first, other], keras.layers.Dense(3)(both))
        with pytest.raises(ValueError, match="to be a classifier with one input"):
            FGSM(0.1).generate(model, maps, labels, verbose=0)
        images = maps[..., None]
        for given in ([images, images], {"a": images, "b": images}):
            with pytest.raises(ValueError, match="to be one array, alone or in a dict"):
                FGSM(0.1).generate(model, given, labels, verbose=0)

    def test_single_input(self):
        images = np.zeros((2, 4, 4, 1))
        for given in (images, [images], (images,), {"a": images}):
            assert single_input("PGD", given) is images
        listed = list(images)
        assert single_input("PGD", listed) is listed


class TestWholeNumbers:
    @staticmethod
    def _nets():
        nets = []
        for dtype in ("uint8", "float32"):
            keras.utils.set_random_seed(2)
            nets.append(
                keras.Sequential(
                    [
                        keras.Input((8, 8, 1), dtype=dtype),
                        keras.layers.Rescaling(1 / 255),
                        keras.layers.Flatten(),
                        keras.layers.Dense(3),
                    ]
                )
            )
        return nets

    def test_are_attacked_as_floats_with_one_warning(self, maps, labels):
        model, plain = self._nets()
        images = np.round(255 * maps[..., None])
        attack = PGD(8.5, steps=2, value_range=(0, 255))
        expected = attack.generate(plain, images, labels, seed=1, verbose=0)
        with pytest.warns(UserWarning, match="an `Input` of uint8, which would round"):
            found = attack.generate(
                model, images.astype("uint8"), labels, seed=1, verbose=0
            )
        np.testing.assert_allclose(found, expected, atol=1e-3)
        again = attack(model, images, labels, seed=1)
        np.testing.assert_allclose(again, expected, atol=1e-3)
        assert np.abs(found - np.round(found)).max() > 0.1

    def test_whole_numbers_take_the_model_as_it_is(self, maps):
        model, plain = self._nets()
        images = tf.constant(255 * maps[..., None])
        with pytest.warns(UserWarning, match="an `Input` of uint8"):
            found = call_classifier(model, images, training=False)
        np.testing.assert_allclose(found, plain(images), atol=1e-5)
        whole = tf.cast(images, tf.uint8)
        np.testing.assert_array_equal(call_classifier(model, whole), model(whole))

    def test_weights_are_shared(self, maps):
        model, _ = self._nets()
        images = tf.constant(255 * maps[..., None])
        with pytest.warns(UserWarning, match="an `Input` of uint8"):
            before = call_classifier(model, images)
        model.layers[-1].kernel.assign(2.0 * model.layers[-1].kernel)
        np.testing.assert_allclose(
            call_classifier(model, images), 2.0 * before, atol=1e-5
        )


def test_with_channels():
    assert add_channels(np.zeros((2, 8, 8))).shape == (2, 8, 8, 1)
    images = tf.zeros((2, 8, 8, 3))
    assert add_channels(images) is images


def test_check_image_shape():
    any_size = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Flatten()])
    check_image_shape("PGD", any_size, np.zeros((1, 5, 7, 3)))
    check_image_shape("PGD", len, np.zeros((1, 5)))
    with pytest.raises(ValueError, match="input shape, "):
        check_image_shape("PGD", any_size, np.zeros((1, 5, 7, 1)))
