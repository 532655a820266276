import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import cards_in
from keras_advdef.core.gradients import bypass_defences
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import draw_scope
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import small_net, sparse_loss, weights_of


@pytest.fixture
def model(net):
    net.layers[-1].kernel.assign(20.0 * net.layers[-1].kernel)
    return DefenseGAN(small_generator(), net, steps=20, restarts=3, seed=1)


def drawn(function, *arguments, seed=3):
    with draw_scope(make_key(seed)):
        return function(*arguments)


class TestDefenseGAN:
    def test_classifies_the_projection_and_scores_its_distance(self, model, images):
        made = drawn(model.projection, images)
        found = drawn(model, images)
        own = tf.nn.softmax(model.classifier(made))
        np.testing.assert_allclose(found["probabilities"], own, atol=1e-5)
        expected = np.square(made - images).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found["score"], expected, rtol=1e-4)
        logits = drawn(LogitsFunction(model), tf.constant(images))
        np.testing.assert_allclose(logits[:, :3], model.classifier(made), atol=1e-4)

    def test_a_softmax_at_the_end_changes_nothing(self, model, images):
        probable = keras.Sequential([model.classifier, keras.layers.Softmax()])
        other = DefenseGAN(model.generator, probable, steps=20, restarts=3)
        expected = drawn(model, images)
        for name, value in drawn(other, images).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-4)

    def test_maps_without_channels(self, model, images):
        inputs = keras.Input((8, 8))
        reshaped = keras.layers.Reshape((8, 8, 1))(inputs)
        maps = keras.Model(inputs, model.classifier(reshaped))
        other = DefenseGAN(model.generator, maps, steps=20, restarts=3)
        expected = drawn(model, images)
        for name, value in drawn(other, images[..., 0]).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-4)

    def test_score_tells_the_generators_images_from_others(self, model, images):
        made = model.generator(normal(make_key(9), [6, 4])).numpy()
        model.calibrate(made, 0.0)
        near, far = (model.predict(each, verbose=0)["score"] for each in (made, images))
        assert near.max() < far.min()
        assert model.predict(images, verbose=0)["verdict"].all()

    def test_scores_are_on_the_unit_scale(self, images):
        generator = small_generator()
        generator.add(keras.layers.Rescaling(255.0))
        wide = DefenseGAN(
            generator, small_net(), steps=20, restarts=3, value_range=(0, 255)
        )
        unit = DefenseGAN(small_generator(), small_net(), steps=20, restarts=3)
        scores = drawn(wide, 255 * images)["score"], drawn(unit, images)["score"]
        np.testing.assert_allclose(*scores, rtol=1e-2)

    def test_gradients_take_the_projection_for_the_identity(self, model, images):
        x = tf.constant(images)
        made = drawn(model.projection, x)
        function = LogitsFunction(model)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(drawn(function, x)[:, 0])
        with tf.GradientTape() as inner:
            inner.watch(made)
            wanted = tf.reduce_sum(model.classifier(made)[:, 0])
        slopes = tape.gradient(value, x), inner.gradient(wanted, made)
        np.testing.assert_allclose(*slopes, atol=1e-4)

    def test_gradient_of_the_score_takes_the_latents_for_constant(self, model, images):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = drawn(lambda: model.scored(x, False))[1]
        made = drawn(model.projection, x)
        wanted = 2.0 / 64 * (x - made)
        np.testing.assert_allclose(tape.gradient(score, x), wanted, atol=1e-6)

    def test_an_unaware_attacker_sees_the_classifier(self, model, images):
        with bypass_defences():
            logits = LogitsFunction(model)(tf.constant(images)).numpy()
        np.testing.assert_allclose(logits[:, :3], model.classifier(images), atol=1e-4)
        assert (logits.argmax(axis=1) < 3).all()

    def test_classifier_can_be_trained_but_not_the_generator(self, digits):
        model = DefenseGAN(small_generator(), small_net(), steps=2, restarts=2)
        before = weights_of(model.generator)
        trained = keras.Sequential([model.projection, model.classifier])
        trained.compile("adam", sparse_loss())
        trained.fit(digits.x_train[:16], digits.y_train[:16], verbose=0)
        assert len(model.trainable_weights) == len(model.classifier.weights)
        for old, new in zip(before, weights_of(model.generator), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_saved_with_threshold_and_generator(self, model, images, tmp_path):
        model.calibrate(images, 0.3)
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        threshold = float(model.threshold.numpy())
        assert float(copy.threshold.numpy()) == threshold < 1.0
        found = copy.predict(images, verbose=0)
        for name, value in model.predict(images, verbose=0).items():
            np.testing.assert_array_equal(found[name], value)

    def test_exported(self, model, tmp_path):
        made = model.generator(normal(make_key(9), [5, 4]))
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "served"))
        assert np.max(served.serve(made)["score"]) < 0.05
        assert {"DefenseGAN", "GenerativeProjection"} <= set(
            cards_in(tmp_path / "served")
        )

    def test_config_is_json(self, model):
        config = json.loads(json.dumps(model.get_config()))
        copy = DefenseGAN.from_config(config)
        assert json.loads(json.dumps(copy.get_config())) == config
        assert (copy.projection.steps, copy.projection.restarts) == (20, 3)

    def test_rejects(self):
        with pytest.raises(TypeError, match="`DefenseGAN` expects `classifier`"):
            DefenseGAN(small_generator(), len)
        with pytest.raises(ValueError, match="expects `steps`"):
            DefenseGAN(small_generator(), small_net(), steps=0)
        rule = r"`DefenseGAN` expects `generator`.*\(None, 8, 8, 1\).*\(None, 7, 8, 1\)"
        with pytest.raises(ValueError, match=rule):
            DefenseGAN(small_generator((7, 8, 1)), small_net())
        vectors = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        with pytest.raises(ValueError, match="the classifier's images"):
            DefenseGAN(small_generator(), vectors)
