import pytest

from keras_advdef.attacks import ClassificationLoss, KLToClean
from keras_advdef.attacks.loss_names import attack_loss
from keras_advdef.losses import Margin


def test_names_and_objects():
    assert isinstance(attack_loss("PGD", "kl"), KLToClean)
    assert isinstance(attack_loss("PGD", "margin").loss, Margin)
    assert isinstance(attack_loss("PGD", "cross_entropy"), ClassificationLoss)
    own = KLToClean()
    assert attack_loss("PGD", own) is own


def test_rejects_other_names():
    with pytest.raises(ValueError, match="one of 'cross_entropy', 'margin', 'kl' or"):
        attack_loss("PGD", "hinge")
