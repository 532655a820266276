import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.layers import BitDepthReduction, RandomNoise, RandomResizePad
from tests.support import masked_nets
from tests.support.nets import linear_net, small_net


@pytest.fixture
def probe_of(digits):
    def make(model, images=None, *, pixels=(0.0, 1.0), seed=0):
        images = digits.x_test[:20] if images is None else images
        labels = digits.y_test[: len(images)]
        return probe(
            EvaluatedModel.of(model),
            images,
            labels,
            value_range=ValueRange(*pixels),
            seed=seed,
        )

    return make


class _Sums(keras.layers.Layer):
    """No gradient, and another shape."""

    def call(self, inputs):
        return tf.round(100 * tf.reduce_mean(inputs, axis=1))


def test_randomness_that_shows_later(make_probe_result):
    probed = make_probe_result()
    assert (probed.is_random, probed.draws, probed.is_plain) == (False, 1, True)
    drawn = probed.random_under_attack()
    assert (drawn.is_random, drawn.draws, drawn.is_plain) == (True, 20, False)
    assert drawn.differs_under_attack
    assert drawn.adaptive.is_random
    assert not drawn.naive.is_random


class TestProbe:
    def test_honest_net(self, trained_net, probe_of):
        probed = probe_of(trained_net)
        assert probed.is_plain
        assert not probed.is_random
        assert probed.score_total == 0.0
        assert probed.has_gradient
        assert (probed.no_gradient, probed.saturated, probed.bpda_layers) == (0, 0, ())
        assert (probed.classes, probed.draws) == (3, 1)
        assert probed.naive.has_gradient
        assert probed.adaptive.temperature == 1.0
        assert not probed.naive.bypass_defences

    def test_saturated_net(self, trained_net, probe_of, digits):
        probed = probe_of(masked_nets.saturated(trained_net))
        assert probed.no_gradient == 0.0
        assert probed.saturated > 0.5
        top = 1000.0 * np.sort(trained_net(digits.x_test[:20]), axis=-1)
        gap = np.median(top[:, 2] - top[:, 1])
        assert probed.gap == pytest.approx(gap, rel=1e-3)
        # The attacker who knows it divides it away; the naive one does not.
        assert probed.adaptive.temperature == probed.gap
        assert probed.naive.temperature == 1.0
        assert probed.is_plain

    @pytest.mark.parametrize(
        ("mask", "name"), [("quantised", "rounding"), ("stopped", "wall")]
    )
    def test_mask_that_the_identity_passes(self, mask, name, trained_net, probe_of):
        probed = probe_of(getattr(masked_nets, mask)(trained_net))
        assert probed.no_gradient == 1.0
        assert probed.no_gradient_by_identity == 0.0
        assert [each.name for each in probed.bpda_layers] == [name]
        assert probed.has_gradient
        assert probed.adaptive.bpda_layers == probed.bpda_layers
        assert probed.adaptive.has_gradient
        assert not probed.naive.has_gradient
        assert not probed.is_plain

    def test_mask_of_another_shape(self, probe_of):
        layers = [_Sums(), keras.layers.Flatten(), keras.layers.Dense(3)]
        probed = probe_of(keras.Sequential([keras.Input((8, 8, 1)), *layers]))
        assert probed.bpda_layers == ()
        assert probed.no_gradient_by_identity == 1.0
        assert not probed.has_gradient
        assert not probed.adaptive.has_gradient
        assert not probed.is_plain

    @pytest.mark.parametrize("mask", ["noisy", "dropping"])
    def test_randomness_by_no_layer_of_the_package(self, mask, trained_net, probe_of):
        probed = probe_of(getattr(masked_nets, mask)(trained_net))
        assert probed.is_random
        assert probed.spread > 0.1
        assert probed.draws == 20
        assert not probed.is_declared_random
        assert probed.adaptive.is_random
        assert not probed.naive.is_random
        assert not probed.is_plain

    # The noise of a thousandth of the gap is far below one.
    @pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
    @pytest.mark.parametrize("is_random", [True, False])
    def test_small_logits_hide_no_noise(self, factor, is_random, trained_net, probe_of):
        def model(images):
            logits = trained_net(images)
            noise = tf.random.normal(tf.shape(logits), stddev=0.01 * is_random)
            return factor * (logits + noise) @ tf.eye(3)

        assert probe_of(model).is_random == is_random

    def test_probabilities(self, trained_net, probe_of):
        with pytest.warns(UserWarning, match="returns probabilities"):
            probed = probe_of(masked_nets.steep(trained_net))
        assert probed.score_total == 1.0
        assert probed.certain > 0.5

    def test_probabilities_that_leave_their_digits(self, probe_of):
        inputs = keras.Input((8, 8, 1))
        maps = keras.layers.Softmax()(keras.layers.Conv2D(3, 3)(inputs))
        net = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
        with pytest.warns(UserWarning, match="returns probabilities"):
            probed = probe_of(net)
        assert probed.score_total == 1.0
        assert probed.certain == 0.0

    def test_softmax_of_keras_is_undone(self, probe_of):
        assert probe_of(small_net(head="softmax")).score_total == 0.0

    def test_declared_randomness(self, probe_of):
        probed = probe_of(small_net(front=[RandomNoise(0.3)]))
        assert probed.is_random
        assert probed.is_declared_random
        assert probed.naive.bypass_defences
        assert not probed.adaptive.bypass_defences

    def test_most_draws_that_a_card_asks_for(self, probe_of):
        layers = [RandomResizePad(output_size=10, min_size=7), RandomNoise(0.3)]
        probed = probe_of(small_net_on(10, layers))
        assert probed.draws == max(card.eot_samples for card in probed.cards.values())
        assert probed.draws == 30

    def test_deterministic_defence_is_left_out_by_the_naive(self, probe_of):
        probed = probe_of(small_net(front=[BitDepthReduction(3)]))
        assert probed.has_gradient
        assert not probed.is_random
        assert probed.naive.bypass_defences
        assert not probed.is_plain
        assert all(isinstance(card, DefenceCard) for card in probed.cards.values())

    def test_value_range(self, trained_net, probe_of, digits):
        inside = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), trained_net]
        wide = probe_of(
            keras.Sequential(inside), 255 * digits.x_test[:20], pixels=(0.0, 255.0)
        )
        assert wide.gap == pytest.approx(probe_of(trained_net).gap, rel=1e-3)
        assert wide.is_plain

    def test_same_seed_same_findings(self, probe_of):
        net = small_net(front=[RandomNoise(0.3)])
        spreads = [probe_of(net, seed=seed).spread for seed in (0, 0, 1)]
        assert spreads[0] == spreads[1] != spreads[2]

    def test_function_of_images(self, probe_of):
        weights = tf.constant(np.random.default_rng(0).normal(size=(64, 3)), tf.float32)
        probed = probe_of(lambda images: tf.reshape(images, (-1, 64)) @ weights)
        assert probed.is_plain
        assert probed.classes == 3

    @pytest.mark.parametrize(("deviation", "is_random"), [(1e-6, False), (0.1, True)])
    def test_rounding_is_no_randomness(self, deviation, is_random, probe_of):
        def model(images):
            logits = tf.reshape(images, (-1, 64))[:, :3]
            return logits + deviation * tf.random.normal(tf.shape(logits))

        probed = probe_of(model)
        assert probed.is_random is is_random
        assert probed.spread > 0.0

    @pytest.mark.parametrize(("missing", "is_repaired"), [(2, False), (3, True)])
    def test_tenth_of_the_images_may_lack_a_gradient(
        self, missing, is_repaired, probe_of
    ):
        # A dead ReLU behind every dark image.
        net = linear_net([[1.0], [-1.0], [2.0]], np.zeros(3), shape=(1, 1, 1))
        relu = keras.layers.Lambda(lambda x: tf.nn.relu(x - 0.5))
        model = keras.Sequential([keras.Input((1, 1, 1)), relu, net])
        images = np.where(np.arange(20) < missing, 0.2, 0.8).reshape(20, 1, 1, 1)
        probed = probe_of(model, images)
        assert probed.no_gradient == missing / 20
        assert bool(probed.bpda_layers) == is_repaired
        left = 0.0 if is_repaired else missing / 20
        assert probed.no_gradient_by_identity == left


def small_net_on(size, layers):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *layers,
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(size),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
