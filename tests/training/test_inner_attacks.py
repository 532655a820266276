import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD, Square
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import BitDepthReduction
from keras_advdef.objectives import CrossEntropy, Objective
from keras_advdef.training._inner_attacks import (
    InnerAttacks,
    check_attacked_batch,
    checked_attack,
    checked_objective,
    inner_attack,
)
from tests.support.nets import small_net

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
