import numpy as np
import pytest
from scipy.special import log_softmax

from keras_advdef.attacks import FGSM
from keras_advdef.objectives import AdversarialCrossEntropy, LogitPairing
from keras_advdef.training import AdversarialTrainingModel
from tests.support.logit_model import ATTACKED, CLEAN, of_logits


class TestLogitPairing:
    def test_by_hand(self):
        # The logits differ by 1.5 and -0.5, so the mean square is 2.5 / 4.
        losses, clean, attacked = of_logits(
            LogitPairing(weight=2.0), CLEAN, [0], ATTACKED
        )
        right = [log_softmax(each[0])[0] for each in (CLEAN, ATTACKED)]
        np.testing.assert_allclose(losses, [-np.mean(right) + 1.25], rtol=1e-6)
        # The pull on both is the same, and opposite.
        pull = 2.0 * 2.0 * (CLEAN - ATTACKED) / 4.0
        own = [np.exp(log_softmax(each)) - np.eye(4)[0] for each in (CLEAN, ATTACKED)]
        np.testing.assert_allclose(clean, own[0] / 2.0 + pull, atol=1e-6)
        np.testing.assert_allclose(attacked, own[1] / 2.0 - pull, atol=1e-6)

    def test_without_weight_it_is_half_clean(self):
        rows = np.array([[0.25, 0.75, 0.0, 0.0]])
        for labels in ([0], rows):
            one, other = (
                of_logits(each, CLEAN, labels, ATTACKED)
                for each in (LogitPairing(weight=0.0), AdversarialCrossEntropy(0.5))
            )
            for found, expected in zip(one, other, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_leaves_the_attack_as_it_is(self, net):
        attack = FGSM(0.1, loss="margin")
        model = AdversarialTrainingModel(net, attack, LogitPairing())
        assert model._attacks == [attack]

    def test_needs_an_attack(self, net):
        with pytest.raises(ValueError, match=r"on which `LogitPairing` trains. Rec"):
            AdversarialTrainingModel(net, objective=LogitPairing())

    def test_rejects(self):
        with pytest.raises(ValueError, match="`LogitPairing` expects `weight`"):
            LogitPairing(weight=-1.0)
