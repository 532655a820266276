import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.gradients import straight_through
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._verdict import planted_model
from keras_advdef.evaluation._verdict.last_features import last_features
from keras_advdef.evaluation._verdict.planted_model import FeatureModel, PlantedModel
from keras_advdef.layers import BitDepthReduction
from tests.support.nets import small_net


class TestFeatureModel:
    def test_features(self, images):
        net = small_net()
        features = FeatureModel(net)
        assert not features.without_features
        expected = last_features(net)(images)
        np.testing.assert_array_equal(LogitsFunction(features)(images), expected)

    @pytest.mark.parametrize("largest", [7, 8])
    def test_features_of_too_many_values(self, largest, images, monkeypatch):
        monkeypatch.setattr(planted_model, "_LARGEST", largest)
        features = FeatureModel(small_net())
        is_few = largest == 8
        assert features.logits(images).shape[1] == (8 if is_few else 3)
        assert ("too many values" in features.without_features) != is_few

    def test_logits_without_their_softmax(self, images):
        net = small_net(head="softmax")

        def model(images):
            return net(images)

        features = FeatureModel(model)
        assert "not a graph" in features.without_features
        expected = LogitsFunction(net)(images)
        found = tf.function(features.logits, autograph=False)(tf.constant(images))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_a_view_reaches_the_layers_inside(self, images):
        rounding = BitDepthReduction(1)
        view = ModelView(FeatureModel(small_net(front=[rounding])))
        plain = LogitsFunction(view)(images)
        passed = ModelView(view.model, bypass_defences=True)
        assert np.abs(LogitsFunction(passed)(images) - plain).max() > 1e-3


class TestPlantedModel:
    def test_each_row_has_its_classifier(self, images):
        features = FeatureModel(small_net())
        model = PlantedModel(features, size=len(images), width=8)
        rng = np.random.default_rng(0)
        slopes, offsets = rng.normal(size=(6, 8)), rng.normal(size=6)
        model.plant(slopes, offsets)
        found = LogitsFunction(model)(images).numpy()
        expected = (features.logits(images).numpy() * slopes).sum(axis=1) + offsets
        np.testing.assert_array_equal(found[:, 0], 0.0)
        np.testing.assert_allclose(found[:, 1], expected, rtol=1e-4)

    def test_traced_functions_see_new_classifiers(self):
        features = FeatureModel(lambda images: 5.0 * tf.reshape(images, (-1, 1)))
        model = PlantedModel(features, size=1, width=1)
        logits = tf.function(LogitsFunction(model), autograph=False)
        image = tf.ones((1, 1, 1, 1))
        for slope in (2.0, 3.0):
            model.plant(np.array([[slope]]), np.zeros(1))
            assert logits(image).numpy().tolist() == [[0.0, 5.0 * slope]]

    def test_gradients_are_those_of_the_features(self):
        def model(images):
            flat = tf.reshape(images, (-1, 1))
            return straight_through(-flat, 5.0 * flat)

        planted = PlantedModel(FeatureModel(model), size=1, width=1)
        planted.plant(np.array([[2.0]]), np.zeros(1))
        image = tf.ones((1, 1, 1, 1))
        with tf.GradientTape() as tape:
            tape.watch(image)
            value = planted.logits(image)[0, 1]
        assert tape.gradient(value, image).numpy().item() == -2.0
