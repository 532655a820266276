import pytest

from keras_advdef.attacks import ClassificationLoss, KLToClean, TargetedDLR
from keras_advdef.attacks.loss_names import attack_loss
from keras_advdef.losses import DifferenceOfLogitsRatio, Margin


def test_names_and_objects():
    assert isinstance(attack_loss("PGD", "kl"), KLToClean)
    assert isinstance(attack_loss("PGD", "margin").loss, Margin)
    assert isinstance(attack_loss("PGD", "dlr").loss, DifferenceOfLogitsRatio)
    assert isinstance(attack_loss("PGD", "targeted_dlr"), TargetedDLR)
    assert isinstance(attack_loss("PGD", "cross_entropy"), ClassificationLoss)
    own = KLToClean()
    assert attack_loss("PGD", own) is own


def test_rejects_other_names():
    names = "'cross_entropy', 'margin', 'dlr', 'targeted_dlr', 'kl' or"
    with pytest.raises(ValueError, match=f"one of {names}"):
        attack_loss("PGD", "hinge")
