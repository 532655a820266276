import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.cards import cards_in
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.models import AveragingEnsemble
from keras_advdef.models.averaging_ensemble import log_mean_probability
from tests.support.nets import small_net


@pytest.fixture
def ensemble():
    return AveragingEnsemble([small_net(), small_net(), small_net()])


class TestAveragingEnsemble:
    def test_probabilities_are_averaged(self, ensemble, images):
        each = [tf.nn.softmax(net(images)).numpy() for net in ensemble.members]
        assert np.ptp(each, axis=0).max() > 0.01
        np.testing.assert_allclose(ensemble(images), np.mean(each, axis=0), atol=1e-6)
        np.testing.assert_allclose(
            ensemble.predict(images, verbose=0), np.mean(each, axis=0), atol=1e-6
        )

    def test_logits_are_the_logarithm_of_the_mean(self, ensemble, images):
        logits = LogitsFunction(ensemble)(tf.constant(images))
        np.testing.assert_allclose(tf.exp(logits), ensemble(images), atol=1e-6)

    def test_logits_do_not_saturate(self):
        members = tf.constant([[[0.0, -300.0], [0.0, -500.0]]])
        found = log_mean_probability(members).numpy()
        np.testing.assert_allclose(found, [[0.0, -300.0 - np.log(2.0)]], rtol=1e-5)

    def test_member_logits(self, ensemble, images):
        found = LogitsFunction(ensemble).member_logits(tf.constant(images))
        assert found.shape == (6, 3, 3)
        for index, net in enumerate(ensemble.members):
            np.testing.assert_allclose(found[:, index], net(images), atol=1e-6)

    def test_a_softmax_at_the_end_changes_nothing(self, ensemble, images):
        nets = [
            keras.Sequential([net, keras.layers.Softmax()]) for net in ensemble.members
        ]
        other = AveragingEnsemble(nets)
        np.testing.assert_allclose(
            other.member_logits(images), ensemble.member_logits(images), atol=1e-5
        )

    def test_fit_trains_all_members(self, ensemble, digits):
        ensemble.compile("adam", "sparse_categorical_crossentropy")
        before = [np.array(net.weights[0]) for net in ensemble.members]
        ensemble.fit(digits.x_train, digits.y_train, epochs=1, verbose=0)
        for old, net in zip(before, ensemble.members, strict=True):
            assert not np.array_equal(old, net.weights[0])

    def test_members_count_their_own_losses_once(self, images, labels):
        nets = [
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(3, activity_regularizer="l2"),
                ]
            )
            for _ in range(2)
        ]
        ensemble = AveragingEnsemble(nets)
        ensemble(images)
        ensemble(images)
        assert len(ensemble.losses) == 2
        ensemble.compile("sgd", "sparse_categorical_crossentropy")
        assert np.isfinite(ensemble.evaluate(images, labels, verbose=0))

    def test_keras_file(self, ensemble, images, tmp_path):
        ensemble.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(images), ensemble(images), atol=1e-6)

    @pytest.mark.slow
    def test_saved_model(self, ensemble, images, tmp_path):
        ensemble.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        np.testing.assert_allclose(
            served.serve(images[:1]), ensemble(images[:1]), atol=1e-6
        )
        assert list(cards_in(tmp_path / "served")) == ["AveragingEnsemble"]

    def test_attack_sees_all_members(self, ensemble, images, labels):
        attack = PGD(0.2, steps=3)
        found = attack.generate(ensemble, images, labels, seed=0, verbose=0)
        assert np.abs(found - images).max() <= 0.2 + 1e-6
        assert np.abs(found - images).max() > 0.1

    def test_xla(self, ensemble, images):
        jitted = tf.function(ensemble, jit_compile=True)(tf.constant(images))
        np.testing.assert_allclose(jitted, ensemble(images), atol=1e-5)

    def test_mixed_float16(self, images):
        nets = []
        for _ in range(2):
            dense = keras.layers.Dense(3, dtype="mixed_float16")
            flat = keras.layers.Flatten(dtype="mixed_float16")
            nets.append(keras.Sequential([keras.Input((8, 8, 1)), flat, dense]))
        found = AveragingEnsemble(nets)(images)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found.numpy().sum(axis=1), 1.0, atol=1e-5)

    @pytest.mark.parametrize("make", [list, lambda: [small_net()]])
    def test_too_few_members(self, make):
        with pytest.raises(ValueError, match="at least two different models"):
            AveragingEnsemble(make())

    def test_the_same_member_twice(self, net):
        with pytest.raises(ValueError, match="given twice"):
            AveragingEnsemble([net, net])

    def test_members_with_different_outputs(self, net):
        layers = [keras.layers.Flatten(), keras.layers.Dense(4)]
        other = keras.Sequential([keras.Input((8, 8, 1)), *layers], name="other")
        with pytest.raises(ValueError, match=r"`other` maps .* to \(None, 4\)"):
            AveragingEnsemble([net, other])

    def test_member_of_another_type(self, net):
        with pytest.raises(TypeError, match="`members` to be a `Model`"):
            AveragingEnsemble([net, keras.layers.Dense(3)])


def test_a_model_is_no_list_of_members():
    with pytest.raises(ValueError, match="`members` to be a list of models"):
        AveragingEnsemble(small_net())


def test_one_unit_counts_as_two_classes(images):
    """Members of one logit, one sigmoid unit and a softmax of two, all the same net."""
    body = [keras.Input((8, 8, 1)), keras.layers.Flatten()]
    unit = keras.layers.Dense(1)
    unit.build((None, 64))
    two = keras.layers.Dense(2, activation="softmax")
    two.build((None, 64))
    two.set_weights(
        [
            np.pad(each, [(0, 0)] * (each.ndim - 1) + [(1, 0)])
            for each in unit.get_weights()
        ]
    )
    logit = keras.Sequential([*body, unit])
    sigmoid = keras.Sequential([*body, unit, keras.layers.Activation("sigmoid")])
    softmax = keras.Sequential([*body, two])
    ensemble = AveragingEnsemble([logit, sigmoid, softmax])
    p = sigmoid.predict(images, verbose=0)
    expected = np.concatenate([1 - p, p], axis=1)
    found = ensemble.predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    outputs = ensemble(keras.Input((8, 8, 1)))
    assert outputs.shape == (None, 2)
    members = ensemble.member_logits(images)
    for index in range(3):
        gaps = members[:, index, 1] - members[:, index, 0]
        np.testing.assert_allclose(gaps, logit(images)[:, 0], atol=1e-5)
