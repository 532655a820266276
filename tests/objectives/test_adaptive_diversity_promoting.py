import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.losses import AdaptiveDiversity
from keras_advdef.models import AveragingEnsemble
from keras_advdef.objectives import AdaptiveDiversityPromoting
from keras_advdef.training import AdversarialTrainingModel

CONTRACT = [{"entropy_weight": 1.0}]


def member(classes=5):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ]
    )


@pytest.fixture
def ensemble():
    return AveragingEnsemble([member(), member(), member()])


def training_model(ensemble, attack=None, **arguments):
    objective = AdaptiveDiversityPromoting(**arguments)
    model = AdversarialTrainingModel(ensemble, attack, objective)
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=attack is not None)
    return model


class TestAdaptiveDiversityPromoting:
    def test_without_weights_it_is_the_sum_of_cross_entropies(
        self, ensemble, images, labels
    ):
        model = training_model(ensemble, entropy_weight=0.0, diversity_weight=0.0)
        losses, clean, outputs = model.objective(model, images, labels, images)
        expected = sum(
            keras.losses.sparse_categorical_crossentropy(
                labels, each(images, training=True), from_logits=True
            ).numpy()
            for each in ensemble.members
        )
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        members = ensemble.member_logits(images, training=True)
        mean = tf.reduce_mean(tf.nn.softmax(members), axis=1)
        np.testing.assert_allclose(clean, mean, atol=1e-6)
        assert outputs is None

    def test_regulariser_is_added(self, ensemble, images, labels):
        plain = training_model(ensemble, entropy_weight=0.0, diversity_weight=0.0)
        full = training_model(ensemble)
        first, second = (
            model.objective(model, images, labels, images)[0] for model in (plain, full)
        )
        members = ensemble.member_logits(images, training=True)
        added = AdaptiveDiversity(from_logits=True, reduction=None)(labels, members)
        np.testing.assert_allclose(second - first, added, rtol=1e-4)

    def test_clean_and_adversarial_losses_are_added(self, ensemble, images, labels):
        model = training_model(ensemble)
        moved = np.clip(images + 0.1, 0, 1)
        both, clean, outputs = model.objective(model, images, labels, moved)
        one, other = (
            model.objective(model, each, labels, each)[0] for each in (images, moved)
        )
        np.testing.assert_allclose(both, one + other, rtol=1e-5)
        assert not np.allclose(clean, outputs)

    @pytest.mark.parametrize("attack", [None, PGD(0.1, steps=2)])
    def test_fit_trains_every_member(self, attack, ensemble, images, labels):
        model = training_model(ensemble, attack)
        before = [np.array(w) for w in ensemble.weights]
        history = model.fit(images, labels, epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert ("adversarial_accuracy" in history) == (attack is not None)
        after = [np.array(w) for w in ensemble.weights]
        names = [w.name for w in ensemble.weights]
        for name, old, new in zip(names, before, after, strict=True):
            assert not np.array_equal(old, new), name

    @pytest.mark.nightly
    def test_diversity_grows_in_training(self, digits):
        def trained(**arguments):
            keras.utils.set_random_seed(0)
            net = AveragingEnsemble([member(), member(), member()])
            model = training_model(net, **arguments)
            model.fit(digits.x_train, digits.y_train, epochs=3, verbose=0)
            probabilities = tf.nn.softmax(net.member_logits(digits.x_test))
            volume = AdaptiveDiversity(entropy_weight=0.0, diversity_weight=1.0)
            return float(volume(digits.y_test, probabilities))

        plain = trained(entropy_weight=0.0, diversity_weight=0.0)
        assert trained(diversity_weight=2.0) < plain - 1.0

    def test_one_hot_labels(self, ensemble, images, labels):
        model = training_model(ensemble)
        sparse = model.objective(model, images, labels, images)[0]
        one_hot = np.eye(5, dtype="float32")[labels]
        other = model.objective(model, images, one_hot, images)[0]
        np.testing.assert_allclose(other, sparse, rtol=1e-5)

    def test_survives_serialisation(self):
        config = AdaptiveDiversityPromoting(diversity_weight=0.1).get_config()
        assert config == {"entropy_weight": 2.0, "diversity_weight": 0.1}
        assert AdaptiveDiversityPromoting.from_config(config).get_config() == config

    def test_too_many_members(self, images, labels):
        ensemble = AveragingEnsemble([member(3), member(3), member(3)])
        with pytest.raises(ValueError, match="at most 2 members for 3 classes"):
            training_model(ensemble).fit(images, labels, verbose=0)

    def test_plain_classifier(self, net, images, labels):
        with pytest.raises(TypeError, match="such as `AveragingEnsemble`"):
            training_model(net).fit(images, labels, verbose=0)

    def test_negative_weight(self):
        with pytest.raises(ValueError, match="`entropy_weight`"):
            AdaptiveDiversityPromoting(entropy_weight=-1.0)
