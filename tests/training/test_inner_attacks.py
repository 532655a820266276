import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD, AutoAttack, Square
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import BitDepthReduction
from keras_advdef.objectives import CrossEntropy, Objective
from keras_advdef.training import AdversarialTrainingModel
from keras_advdef.training._inner_attacks import (
    InnerAttacks,
    check_attacked_batch,
    checked_attack,
    checked_objective,
    inner_attack,
)
from tests.support.nets import linear_net, small_net

_ATTACKS = [FGSM(0.1), FGSM(8.0, value_range=(0, 255))]

# What `combine` does to the loss stands in test_adversarial_training_model.py.


def test_checked_attack():
    attack = FGSM(0.1)
    assert checked_attack("Model", "attack", attack) is attack
    with pytest.raises(TypeError, match="`attack` to be an `Attack`"):
        checked_attack("Model", "attack", "FGSM")
    for wrong in (FGSM(), FGSM(0.1, targeted=True)):
        with pytest.raises(ValueError, match="`Model` expects `attack` to be an"):
            checked_attack("Model", "attack", wrong)


def test_checked_objective():
    class Needy(Objective):
        needs_attack = True

    needy = Needy()
    assert checked_objective("Model", needy, [FGSM(0.1)]) is needy
    with pytest.raises(TypeError, match="`objective` to be an `Objective`"):
        checked_objective("Model", "needy", [])
    rule = "expects `attack` to be an attack with an epsilon, on which `Needy` trains"
    with pytest.raises(ValueError, match=rule):
        checked_objective("Model", needy, [])


def test_inner_attack():
    class Stated(Objective):
        inner_loss = "kl"
        inner_start = "gaussian"

    attack = PGD(0.1)
    assert inner_attack("Model", attack, CrossEntropy()) is attack
    changed = inner_attack("Model", attack, Stated())
    assert (changed.loss, changed.random_start) == ("kl", "gaussian")
    with pytest.raises(ValueError, match="`loss` and `random_start`, which `Stated`"):
        inner_attack("Model", Square(0.1), Stated())


def test_batches(net, images, labels):
    x, y = tf.constant(images), tf.constant(labels)

    def batches(attacks, combine, epsilon):
        key = make_key(0)
        inner = InnerAttacks(attacks, combine)
        return inner.batches(net, x, y, epsilon=epsilon, key=key, losses=None)

    assert batches([], "max", None) == [x]
    (found,) = batches([FGSM(0.1)], "max", tf.constant(0.05))
    np.testing.assert_allclose(found, FGSM(0.05)(net, x, y), atol=1e-6)
    both = batches([FGSM(0.1), FGSM(0.2)], "average", tf.constant([0.1, 0.2]))
    assert [round(float(np.abs(each - x).max()), 5) for each in both] == [0.1, 0.2]


class TestAttackLabels:
    """A linear net of three classes, whose gradients are known."""

    matrix = np.array([[2.0, 1.0], [0.0, -1.0], [-1.0, 1.0]])
    # The first image is taken for class 0, and class 2 is the least likely; the second
    # for classes 2 and 1 in turn.
    images = np.array([[0.8, 0.5], [0.1, 0.9]], "float32").reshape(2, 2, 1, 1)

    def moved(self, attack_labels, labels, attack, net=None):
        net = net or linear_net(self.matrix, np.zeros(3))
        found = InnerAttacks([attack], "max", attack_labels).batches(
            net,
            tf.constant(self.images),
            tf.constant(labels),
            epsilon=tf.constant(0.05),
            key=make_key(0),
            losses=None,
        )
        return (found[0] - self.images).numpy().reshape(2, 2)

    def slope(self, classes):
        """Returns the sign of the cross-entropy's gradient for some classes."""
        logits = np.exp(self.images.reshape(2, 2) @ self.matrix.T)
        error = logits / logits.sum(axis=1, keepdims=True) - np.eye(3)[classes]
        return np.sign(error @ self.matrix)

    def test_predicted_is_the_direction_of_the_predicted_class(self):
        logits = self.images.reshape(2, 2) @ self.matrix.T
        predicted = logits.argmax(axis=1)
        wrong = logits.argmin(axis=1)
        found = self.moved("predicted", wrong, FGSM(0.05))
        np.testing.assert_allclose(found, 0.05 * self.slope(predicted), atol=1e-6)
        # Not that of the labels, which the model misses.
        assert np.any(self.slope(predicted) != self.slope(wrong))
        true = self.moved("true", wrong, FGSM(0.05))
        np.testing.assert_allclose(true, 0.05 * self.slope(wrong), atol=1e-6)

    def test_least_likely_descends_towards_the_least_likely_class(self):
        logits = self.images.reshape(2, 2) @ self.matrix.T
        least, given = logits.argmin(axis=1), logits.argmax(axis=1)
        found = self.moved("least_likely", given, FGSM(0.05))
        np.testing.assert_allclose(found, -0.05 * self.slope(least), atol=1e-6)

    def test_a_softmax_head_and_an_excluded_class(self):
        """What a mask excludes is less likely than anything, and no target."""
        mask = np.array([0.0, 0.0, -np.inf], "float32")
        base = linear_net(self.matrix, np.zeros(3))
        for head in (lambda z: z + mask, lambda z: keras.ops.softmax(z + mask)):
            net = keras.Model(base.inputs, head(base.outputs[0]))
            found = self.moved("least_likely", [0, 0], FGSM(0.05), net)
            logits = self.images.reshape(2, 2) @ self.matrix[:2].T
            least = logits.argmin(axis=1)
            gap = self.matrix[least] - self.matrix[1 - least]
            np.testing.assert_allclose(found, 0.05 * np.sign(gap), atol=1e-6)

    def test_refused(self):
        for wrong in (AutoAttack(0.1), PGD(0.1, loss="kl")):
            with pytest.raises(ValueError, match="one that can be targeted"):
                InnerAttacks([wrong], "max", "least_likely")

    def test_in_training(self, images, labels):
        found = {}
        for name in ("true", "predicted", "least_likely"):
            keras.utils.set_random_seed(0)
            net = small_net()
            model = AdversarialTrainingModel(net, FGSM(0.1), attack_labels=name)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("sgd", loss)
            found[name] = model.fit(images, labels, verbose=0).history["loss"][0]
            config = model.get_config()
            assert config["attack_labels"] == name
        assert found["true"] > max(found["predicted"], found["least_likely"])
        with pytest.raises(ValueError, match="`attack_labels`"):
            AdversarialTrainingModel(net, FGSM(0.1), attack_labels="any")


class TestCheckAttackedBatch:
    def test_the_range_of_every_attack_counts(self, images, labels):
        check_attacked_batch("fit", small_net(), _ATTACKS[:1], images, labels)
        with pytest.raises(ValueError, match=r"`fit` expects `images`.*\[0, 1\]"):
            check_attacked_batch(
                "fit", small_net(), _ATTACKS[::-1], 255 * images, labels
            )
        with pytest.warns(UserWarning, match=r"`fit` got images between.*\(0, 255\)"):
            check_attacked_batch("fit", small_net(), _ATTACKS, images, labels)

    @pytest.mark.parametrize(("units", "classes"), [(1, 2), (3, 3)])
    def test_labels_are_classes_of_the_model(self, units, classes, images):
        net = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(units)]
        )
        labels = np.arange(6) % classes
        check_attacked_batch("fit", net, _ATTACKS[:1], images, labels)
        with pytest.raises(ValueError, match=rf"in \[0, {classes}\)"):
            check_attacked_batch("fit", net, _ATTACKS[:1], images, labels + 1)

    def test_an_epsilon_in_the_units_of_another_range_is_told(self, images, labels):
        attack = FGSM(8 / 255, value_range=(0, 255))
        with pytest.warns(UserWarning, match="`fit`.*Did you mean 8, in the units"):
            check_attacked_batch("fit", small_net(), [attack], 255 * images, labels)

    def test_layers_of_another_range_tell(self, images, labels):
        net = small_net(front=[BitDepthReduction(3, name="bits")])
        with pytest.warns(UserWarning, match="`bits`.*received 2"):
            check_attacked_batch("fit", net, _ATTACKS[1:], 255 * images, labels)
        # Once.
        check_attacked_batch("fit", net, _ATTACKS[1:], 255 * images, labels)
