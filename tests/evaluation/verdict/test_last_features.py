import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.evaluation._verdict.last_features import (
    NoFeaturesError,
    last_features,
)
from tests.support.nets import small_net

Input, Dense, Flatten = keras.Input, keras.layers.Dense, keras.layers.Flatten
SHAPE = (8, 8, 1)


def nested():
    """A head inside a model inside a model, with more behind each of them."""
    inside = keras.Sequential([Input(SHAPE), Flatten(), Dense(5), Dense(3)])
    middle = keras.Sequential([Input(SHAPE), inside, keras.layers.Rescaling(2.0)])
    return keras.Sequential([Input(SHAPE), middle, keras.layers.Softmax()])


def branching():
    """The mean of two heads with features of different sizes."""
    inputs = Input(SHAPE)
    flat = Flatten()(inputs)
    heads = [Dense(3)(Dense(size)(flat)) for size in (4, 6)]
    return keras.Model(inputs, keras.layers.Average()(heads))


def skipping():
    """Features of a residual block, whose addition comes before the head."""
    inputs = Input(SHAPE)
    flat = Flatten()(inputs)
    return keras.Model(inputs, Dense(3)(flat + Dense(64)(flat)))


def convolutional():
    """A head that is a convolution."""
    layers = [keras.layers.Conv2D(3, 1), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([Input(SHAPE), keras.layers.Conv2D(4, 3), *layers])


def twice():
    """The mean of one model for the image and for its mirror image."""
    inside = keras.Sequential([Input(SHAPE), Flatten(), Dense(5), Dense(3)])
    inputs = Input(SHAPE)
    both = [inside(inputs), inside(inputs[:, :, ::-1])]
    return keras.Model(inputs, keras.layers.Average()(both))


class Whole(keras.layers.Layer):
    """A layer that does everything, with weights of its own or of others."""

    def __init__(self, inside=None):
        super().__init__(name="whole")
        self.inside = inside

    def build(self, input_shape):
        del input_shape
        if self.inside is None:
            self.kernel = self.add_weight(shape=(64, 3))

    def call(self, images):
        if self.inside is not None:
            return self.inside(images)
        return tf.reshape(images, (-1, 64)) @ self.kernel


def with_image():
    """Logits to which the image itself adds something."""
    inputs = Input(SHAPE)
    flat = Flatten()(inputs)
    return keras.Model(inputs, Dense(3)(Dense(4)(flat)) + flat[:, :3])


class TestLastFeatures:
    @pytest.mark.parametrize(
        ("make", "size"),
        [
            (small_net, 8),
            (lambda: small_net(head="softmax"), 8),
            (nested, 5),
            (branching, 10),
            (skipping, 64),
            (twice, 10),
            (convolutional, 6 * 6 * 4),
        ],
    )
    def test_size(self, make, size, images):
        features = last_features(make())
        assert features.output_shape == (None, size)
        assert features(images).shape == (len(images), size)

    def test_the_head_turns_them_into_logits(self, images):
        for net in (small_net(), skipping()):
            features = last_features(net)(images)
            np.testing.assert_allclose(net.layers[-1](features), net(images), rtol=1e-5)

    def test_layers_are_shared(self, images):
        net = small_net()
        features = last_features(net)
        net.layers[0].kernel.assign(0.0 * net.layers[0].kernel)
        assert np.ptp(features(images), axis=0).max() == 0.0

    @pytest.mark.filterwarnings("ignore:.*has an `Input` of uint8")
    def test_the_form_of_the_input_is_kept(self):
        inputs = {"photo": Input(SHAPE, dtype="uint8", name="photo")}
        flat = Flatten()(keras.ops.cast(inputs["photo"], "float32"))
        features = last_features(keras.Model(inputs, Dense(3)(flat)))
        pixels = np.full((2, *SHAPE), 0.25, "float32")
        np.testing.assert_array_equal(call_classifier(features, pixels), 0.25)

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda: len, "the model is not a graph of layers"),
            (with_image, "its output takes in the image itself"),
            (lambda: keras.Sequential([Input(SHAPE), Whole()]), "`whole` is not one"),
            (
                lambda: keras.Sequential([Input(SHAPE), Whole(small_net())]),
                "`whole` is not one of Keras's own",
            ),
        ],
    )
    def test_where_there_are_none(self, make, reason):
        with pytest.raises(NoFeaturesError, match=reason):
            last_features(make())

    def test_a_layer_that_holds_others_without_weights(self):
        whole = Whole(keras.Sequential([Input(SHAPE), Flatten()]))
        with pytest.raises(NoFeaturesError, match="`whole` holds others"):
            last_features(keras.Sequential([Input(SHAPE), whole]))
