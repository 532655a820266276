import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.model_inputs import image_spec
from keras_advdef.core.trained_classifier import TrainedClassifier, trained_classifier
from keras_advdef.models import RandomSelfEnsemble
from keras_advdef.training import AdversarialTrainingModel
from tests.support.model_forms import Subclassed
from tests.support.nets import small_net


class TestTrainedClassifier:
    def test_only_the_classifier_is_another(self, net, images):
        model, other = AdversarialTrainingModel(net), small_net()
        seen = TrainedClassifier(model, other, images)
        assert seen.classifier is other
        assert seen.example_losses == model.example_losses
        np.testing.assert_array_equal(seen(images), other(images))

    def test_can_be_copied(self, net, images):
        seen = TrainedClassifier(AdversarialTrainingModel(net), net, images)
        assert copy.copy(seen).classifier is net

    def test_probes_images_of_the_given_size(self):
        sizes = []

        class Convolved(keras.Model):
            """Takes images of any size, but none of fewer than 40 pixels."""

            def call(self, inputs):
                sizes.append(inputs.shape[1])
                maps = tf.stack([inputs, 1.0 - inputs], axis=-1)
                return tf.reduce_mean(tf.nn.softmax(maps[:, 39:]), axis=[1, 2, 3])

        images = tf.ones((3, 48, 48, 1))
        net = Convolved()
        outputs = net(images)
        with pytest.warns(UserWarning, match="returns probabilities"):
            logits = TrainedClassifier(net, net, images).logits_of(outputs)
        share = 1.0 / (1.0 + np.exp(-1.0))
        expected = np.log([[share, 1.0 - share]] * 3)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert set(sizes) == {48}


class TestTrainedClassifierOf:
    def test_training_model_gives_its_classifier(self, net, images):
        model = AdversarialTrainingModel(net)
        assert trained_classifier(model, images).classifier is net

    def test_composition_is_the_classifier_itself(self, net, images):
        ensemble = RandomSelfEnsemble(net)
        assert trained_classifier(ensemble, images).classifier is ensemble

    def test_what_is_one_stays_as_it_is(self, net, images):
        seen = trained_classifier(net, images)
        assert trained_classifier(seen, images) is seen


class TestImageSpec:
    def test_subclassed_model(self, images):
        net = Subclassed()
        net(images)
        assert image_spec(net).shape == images.shape

    def test_unknown_before_the_first_call(self):
        rule = "`Subclassed` expects `model` to be a classifier that knows the shape"
        with pytest.raises(ValueError, match=rule):
            image_spec(Subclassed())
