import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import LatentSpaceAttack
from keras_advdef.attacks._success import is_broken
from keras_advdef.attacks.latent_space_attack import checked_projection, projection_of
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_view import ModelView
from keras_advdef.layers import GenerativeProjection
from keras_advdef.models import DefenseGAN
from tests.support.check_attack import inside
from tests.support.generators import small_generator
from tests.support.modes import graph_and_xla
from tests.support.nets import linear_net, small_net, weights_of

CONTRACT = [{"epsilon": 0.3, "steps": 10, "restarts": 2}]

# A boundary at right angles to the diagonal, in images of four pixels.
WEIGHTS, BIAS = np.array([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]]), [-6.0, 0.0]
SHAPE = (2, 2, 1)


def affine_generator():
    """A generator of all images: a pixel is 0.5 and a quarter of its latent."""
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4), keras.layers.Reshape(SHAPE)]
    )
    net.layers[0].set_weights([0.25 * np.eye(4), np.full(4, 0.5)])
    return net


@pytest.fixture
def model():
    """A perfect projection, so that the model is the linear classifier itself."""
    classifier = linear_net(WEIGHTS, np.array(BIAS), SHAPE)
    return DefenseGAN(affine_generator(), classifier, steps=60, restarts=2, seed=0)


@pytest.fixture
def bright():
    """Images of class 0, whose pixels are 0.1 above the boundary in the mean."""
    drawn = np.random.default_rng(0).uniform(-0.1, 0.1, (6, *SHAPE))
    drawn += 0.6 - drawn.mean(axis=(1, 2, 3), keepdims=True)
    return drawn.astype("float32"), np.zeros(6, int)


def attack(epsilon, **changes):
    arguments = {
        "steps": 80,
        "restarts": 2,
        "learning_rate": 0.02,
        "constant": 0.3,
        "confidence": 0.0,
    }
    return LatentSpaceAttack(epsilon, **{**arguments, **changes})


def broken(attack, model, images, labels):
    found = attack.generate(model, images, labels, seed=0, verbose=0)
    assert inside(found, images, attack.epsilon, attack.norm)
    return attack.predict(model, found) != labels


class TestLatentSpaceAttack:
    # The nearest image of the other class is 0.1 darker everywhere.
    @pytest.mark.parametrize(
        ("norm", "distance"), [("linf", 0.1), ("l2", 0.2), ("l1", 0.4)]
    )
    def test_reaches_what_stands_behind_a_perfect_projection(
        self, norm, distance, model, bright
    ):
        assert broken(attack(1.2 * distance, norm=norm), model, *bright).all()
        assert not broken(attack(0.8 * distance, norm=norm), model, *bright).any()

    def test_keeps_the_nearest_image_that_is_wrong(self, model, bright):
        images, labels = bright
        found = attack(0.5).generate(model, images, labels, seed=0, verbose=0)
        length = np.linalg.norm((found - images).reshape(6, -1), axis=1)
        assert (length > 0.2).all()
        assert (length < 0.21).all()

    def test_confidence_goes_further(self, model, bright):
        images, labels = bright
        sure = attack(0.5, confidence=0.6)
        found = sure.generate(model, images, labels, seed=0, verbose=0)
        # A margin of 0.6 is at a mean of 0.45.
        np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 0.45, atol=0.01)

    def test_sees_the_model_as_the_attack_was_told_to(self, bright):
        images, labels = bright
        rounding = keras.layers.Lambda(lambda pixels: keras.ops.round(64 * pixels) / 64)
        head = linear_net(WEIGHTS, np.array(BIAS), SHAPE)
        classifier = keras.Sequential([keras.Input(SHAPE), rounding, head])
        model = DefenseGAN(affine_generator(), classifier, steps=60, restarts=2, seed=0)
        past = ModelView(model, bpda_layers=(rounding,))
        # The gradient of rounding is zero, and gives no direction.
        assert not broken(attack(0.15), model, images, labels).any()
        assert broken(attack(0.15), past, images, labels).all()

    def test_dropout_draws_by_the_attacks_seed(self, bright):
        layers = keras.layers
        head = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(2)]
        classifier = keras.Sequential([keras.Input(SHAPE), *head])
        model = DefenseGAN(affine_generator(), classifier, steps=5, restarts=2, seed=0)
        dropping = attack(0.3, training=True, steps=10)
        first, again, other = (
            dropping.generate(model, *bright, seed=seed, verbose=0)
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 1e-3

    def test_targets(self, model, bright):
        images, labels = bright
        aimed = attack(0.2, targeted=True)
        found = aimed.generate(
            model, images, target_labels=1 - labels, seed=0, verbose=0
        )
        assert (aimed.predict(model, found) == 1).all()
        stays = aimed.generate(model, images, target_labels=labels, seed=0, verbose=0)
        assert (aimed.predict(model, stays) == 0).all()

    def test_other_ranges(self, bright):
        images, labels = bright
        generator = affine_generator()
        generator.add(keras.layers.Rescaling(255.0))
        classifier = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Rescaling(1 / 255),
                linear_net(WEIGHTS, np.array(BIAS), SHAPE),
            ]
        )
        wide = {"value_range": (0, 255)}
        model = DefenseGAN(generator, classifier, steps=60, restarts=2, **wide)
        for epsilon, reached in ((30.0, True), (20.0, False)):
            wrong = broken(attack(epsilon, **wide), model, 255 * images, labels)
            assert (wrong == reached).all()

    def test_models_with_the_layer_inside(self, model, bright):
        layers = [model.projection, model.classifier]
        sequential = keras.Sequential([keras.Input(SHAPE), *layers])
        assert broken(attack(0.12), sequential, *bright).all()
        assert not broken(attack(0.08), sequential, *bright).any()

    def test_what_the_detector_flags_is_no_success(self, bright):
        images, labels = bright
        # A generator of images of one brightness: whatever else there is, is far.
        generator = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(4), keras.layers.Reshape(SHAPE)]
        )
        generator.layers[0].set_weights([np.full((1, 4), 0.25), np.full(4, 0.5)])
        classifier = linear_net(WEIGHTS, np.array(BIAS), SHAPE)
        model = DefenseGAN(generator, classifier, steps=60, restarts=2)
        logits_fn = LogitsFunction(model)
        ahead = attack(0.2)._ahead(logits_fn, tf.constant(images), 1 - labels)
        assert (ahead.numpy() > 0).all()
        model.threshold.assign(0.0)
        assert is_broken(logits_fn(images), tf.constant(labels), False).numpy().all()
        noticed = attack(0.2)._ahead(logits_fn, tf.constant(images), 1 - labels)
        assert (noticed.numpy() < 0).all()

    # In the gate the contract shows both for a plain model.
    @pytest.mark.nightly
    def test_changes_nothing_and_repeats_itself(self, images, labels):
        net = small_net()
        model = DefenseGAN(small_generator(), net, steps=5, restarts=2)
        small = attack(0.2, steps=5, eot_samples=2)
        before = weights_of(model)
        one, again = (small(model, images, labels, seed=1) for _ in range(2))
        np.testing.assert_array_equal(one, again)
        for old, new in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(old, new)
        whole = small.generate(model, images, labels, seed=1, batch_size=4, verbose=0)
        assert whole.shape == images.shape
        nothing = small(model, images, labels, epsilon=0.0, seed=1)
        np.testing.assert_allclose(nothing, images, atol=1e-6)

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    def test_agrees_in_every_mode(self, model, bright):
        small = attack(0.12, steps=30)
        images, labels = map(tf.constant, bright)
        craft = functools.partial(small, model, seed=1)
        eager = craft(images, labels)
        for compiled in graph_and_xla(craft, images, labels):
            np.testing.assert_allclose(compiled(images, labels), eager, atol=1e-4)

    def test_half_precision(self, model, bright):
        assert broken(attack(0.15, precision="bfloat16"), model, *bright).all()

    def test_config(self):
        made = attack(0.1, confidence=2.0, norm="l2")
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
        assert repr(keras.saving.deserialize_keras_object(config)) == repr(made)
        assert str(made) == "LatentSpaceAttack-80 x 2"
        assert str(made.replace(restarts=1)) == "LatentSpaceAttack-80"

    def test_passes_are_those_of_the_model(self, model):
        # A pass of the model is 120 of the generator; a run takes 160 and one look.
        assert attack(0.1).passes(3, model).forward == 5
        assert attack(0.1, eot_samples=10).passes(3, model).forward == 23

    def test_rejects(self, net, images, labels):
        for argument in ("steps", "restarts", "eot_samples"):
            with pytest.raises(ValueError, match=f"expects `{argument}`"):
                attack(0.1, **{argument: 0})
        for argument in ("learning_rate", "constant"):
            with pytest.raises(ValueError, match=f"expects `{argument}`"):
                attack(0.1, **{argument: 0.0})
        with pytest.raises(ValueError, match="expects `confidence`"):
            attack(0.1, confidence=-1.0)
        with pytest.raises(ValueError, match="a model with a `GenerativeProjection`"):
            attack(0.1).generate(net, images, labels, verbose=0)


def test_projection_inside_a_model(model, net):
    assert projection_of(model) is model.projection
    assert projection_of(net) is None
    assert projection_of(len) is None
    layer = GenerativeProjection(small_generator())
    assert checked_projection(small_net(front=[layer])) is layer


class _NoneBeyond(keras.layers.Layer):
    """NaN for a row whose first value is above a bound."""

    def __init__(self, bound, **kwargs):
        super().__init__(**kwargs)
        self.bound = bound

    def call(self, inputs):
        return tf.where(inputs[:, :1] > self.bound, np.nan, inputs)


@pytest.mark.parametrize("how", ["generate", "eager"])
def test_a_leap_to_where_there_is_no_answer(how, bright):
    """Adam leaps to latents whose logits are NaN; what comes back is an image."""
    classifier = linear_net(WEIGHTS, np.array(BIAS), SHAPE)
    classifier = keras.Sequential([*classifier.layers, _NoneBeyond(0.05)])
    model = DefenseGAN(affine_generator(), classifier, steps=10, restarts=1, seed=0)
    images = (0.35 * bright[0]).astype("float32")
    leaps = LatentSpaceAttack(0.3, steps=6, restarts=2, learning_rate=3.0)
    goal = {"labels": np.ones(6, int), "seed": 0}
    if how == "eager":
        found = leaps(model, images, **goal).numpy()
    else:
        found = leaps.generate(model, images, verbose=0, batch_size=4, **goal)
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert inside(found, images, 0.3, "linf")
