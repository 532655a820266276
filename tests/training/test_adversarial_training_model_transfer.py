"""Ensemble adversarial training: examples from other, static models."""

import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM, Transfer
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import random_net, sparse_loss, weights_of


def dense_net():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


def ensemble(classifier, sources, **options):
    attacks = [FGSM(0.1), *(Transfer(each, FGSM(0.1)) for each in sources)]
    model = AdversarialTrainingModel(classifier, attacks, seed=1, **options)
    model.compile(keras.optimizers.SGD(0.1), sparse_loss())
    return model


class TestEnsembleAdversarialTraining:
    def test_a_step_trains_on_the_images_of_the_source(self, images, labels):
        classifier, source = dense_net(), dense_net()
        attack = Transfer(source, FGSM(0.1))
        model = AdversarialTrainingModel(classifier, attack, seed=1)
        by_hand = keras.models.clone_model(classifier)
        by_hand.set_weights(classifier.get_weights())
        found = FGSM(0.1)(source, images, labels)
        for each, seen in ((model, images), (by_hand, found)):
            each.compile(keras.optimizers.SGD(0.1), sparse_loss())
            each.train_on_batch(seen, labels)
        for one, other in zip(
            classifier.get_weights(), by_hand.get_weights(), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("combine", ["random", "max", "average"])
    def test_sources_stay_as_they_are(self, combine, images, labels):
        sources = [random_net(), dense_net()]
        before = [weights_of(each) for each in sources]
        classifier = dense_net()
        model = ensemble(classifier, sources, combine=combine)
        logs = model.fit(images, labels, batch_size=3, epochs=4, verbose=0).history
        assert np.isfinite(logs["loss"]).all()
        trained = {id(each) for each in model.trainable_variables}
        assert trained == {id(each) for each in classifier.trainable_variables}
        for source, kept in zip(sources, before, strict=True):
            for one, other in zip(weights_of(source), kept, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_every_attack_gets_its_turn(self, images, labels):
        steps = 8
        turns = []
        for only in range(3):
            # The others' epsilons are zero: a step on them is one on clean images.
            keras.utils.set_random_seed(0)
            classifier = dense_net()
            model = ensemble(classifier, [dense_net(), dense_net()], combine="random")
            radii = np.where(np.arange(3) == only, 0.1, 0.0)
            model.epsilon.assign(radii)
            losses, clean = [], float(sparse_loss()(labels, classifier(images)))
            for _ in range(steps):
                start = classifier.get_weights()
                logs = model.train_on_batch(images, labels, return_dict=True)
                losses.append(float(logs["loss"]))
                classifier.set_weights(start)
                model.reset_metrics()
            turns.append(np.abs(np.array(losses) - clean) > 1e-4)
        assert (np.sum(turns, axis=0) == 1).all()
        assert np.any(turns, axis=1).all()

    def test_weights_are_saved_without_the_sources(self, images, labels, tmp_path):
        model = ensemble(dense_net(), [dense_net()], combine="random")
        model.fit(images, labels, verbose=0)
        path = tmp_path / "model.weights.h5"
        model.save_weights(path)
        again = ensemble(dense_net(), [dense_net()], combine="random")
        again.load_weights(path)
        for one, other in zip(weights_of(model), weights_of(again), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_the_whole_is_refused_by_save(self, images, tmp_path):
        model = ensemble(dense_net(), [dense_net()])
        with pytest.raises(TypeError, match=r"`model\.classifier\.save\(\.\.\.\)`"):
            model.save(tmp_path / "model.keras")
        model.classifier.save(tmp_path / "classifier.keras")
        found = keras.models.load_model(tmp_path / "classifier.keras")
        np.testing.assert_allclose(found(images), model(images), atol=1e-6)
