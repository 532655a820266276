import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._attack_loss import attack_loss
from keras_advdef.attacks.losses import ClassificationLoss, KLToClean, TargetedDLR
from keras_advdef.losses import DifferenceOfLogitsRatio, Margin


def test_names_and_objects():
    assert isinstance(attack_loss("PGD", "kl"), KLToClean)
    assert isinstance(attack_loss("PGD", "margin").loss, Margin)
    assert isinstance(attack_loss("PGD", "dlr").loss, DifferenceOfLogitsRatio)
    assert isinstance(attack_loss("PGD", "targeted_dlr"), TargetedDLR)
    assert isinstance(attack_loss("PGD", "margin"), ClassificationLoss)
    own = KLToClean()
    assert attack_loss("PGD", own) is own


def test_rejects_other_names():
    names = "'cross_entropy', 'margin', 'dlr', 'targeted_dlr', 'kl' or"
    with pytest.raises(ValueError, match=f"one of {names}"):
        attack_loss("PGD", "hinge")


def test_cross_entropy_takes_rows():
    loss = attack_loss("PGD", "cross_entropy")
    logits = tf.constant([[2.0, 1.0, 0.0]])
    by_class = [loss.from_logits(logits, tf.constant([k]), None)[0] for k in (0, 1)]
    mixed = loss.from_logits(logits, tf.constant([[0.75, 0.25, 0.0]]), None)
    assert float(mixed[0]) == pytest.approx(np.dot([0.75, 0.25], by_class))
