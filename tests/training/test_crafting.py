import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.core.random_numbers import make_key
from keras_advdef.objectives import CrossEntropy, Objective
from keras_advdef.training._crafting import Crafting, checked_attack, inner_attack

# What `combine` does to the loss stands in test_adversarial_training_model.py.


def test_checked_attack():
    attack = FGSM(0.1)
    assert checked_attack("Model", "attack", attack) is attack
    with pytest.raises(TypeError, match="`attack` to be an `Attack`"):
        checked_attack("Model", "attack", "FGSM")
    for wrong in (FGSM(), FGSM(0.1, targeted=True)):
        with pytest.raises(ValueError, match="`Model` expects `attack` to be an"):
            checked_attack("Model", "attack", wrong)


def test_inner_attack():
    class Stated(Objective):
        inner_loss = "kl"
        inner_start = "gaussian"

    attack = PGD(0.1)
    assert inner_attack(attack, CrossEntropy()) is attack
    changed = inner_attack(attack, Stated())
    assert (changed.loss, changed.random_start) == ("kl", "gaussian")


def test_crafting(net, images, labels):
    key = make_key(0)
    x, y = tf.constant(images), tf.constant(labels)
    assert Crafting([], "max", net, None)(x, y, None, key) == [x]
    (found,) = Crafting([FGSM(0.1)], "max", net, None)(x, y, tf.constant(0.05), key)
    np.testing.assert_allclose(found, FGSM(0.05)(net, x, y), atol=1e-6)
    crafting = Crafting([FGSM(0.1), FGSM(0.2)], "average", net, None)
    both = crafting(x, y, tf.constant([0.1, 0.2]), key)
    assert [round(float(np.abs(each - x).max()), 5) for each in both] == [0.1, 0.2]
