import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.logits import classifier_logits
from keras_advdef.models import AveragingEnsemble
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net


def test_softmax_is_undone(net, images):
    probable = keras.Sequential([net, keras.layers.Softmax()])
    logits = classifier_logits(probable, images)
    np.testing.assert_allclose(logits, net(images), atol=1e-6)


def test_moving_averages_move_in_training(images):
    norm = keras.layers.BatchNormalization()
    net = keras.Sequential([keras.Input((8, 8, 1)), norm, keras.layers.Flatten()])
    before = np.array(norm.moving_mean)
    classifier_logits(net, images)
    np.testing.assert_array_equal(norm.moving_mean, before)
    classifier_logits(net, images, training=True)
    assert not np.array_equal(norm.moving_mean, before)


def test_compositions_give_their_logits(images):
    ensemble = AveragingEnsemble([small_net(), small_net()])
    logits = classifier_logits(ensemble, images)
    np.testing.assert_allclose(tf.exp(logits), ensemble(images), atol=1e-6)


def test_half_precision_becomes_float32(images):
    half = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(dtype="float16")]
    )
    assert half(images).dtype == "float16"
    assert classifier_logits(half, images).dtype == "float32"


def test_training_models_move_averages_on(images):
    net = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Flatten()])
    net.build((None, 8, 8, 1))
    before = np.array(net.layers[0].moving_mean)
    classifier_logits(AdversarialTrainingModel(net), images, training=True)
    assert not np.array_equal(net.layers[0].moving_mean, before)
