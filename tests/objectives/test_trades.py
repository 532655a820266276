import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, rel_entr, softmax

from keras_advdef.attacks import PGD
from keras_advdef.objectives import TRADES, CrossEntropy
from keras_advdef.training import AdversarialTrainingModel
from tests.support.logit_model import ATTACKED, CLEAN, of_logits
from tests.support.nets import small_net, sparse_loss
from tests.support.trades import Trades


def _trained(start, images, labels, objective, attack=None):
    net = small_net()
    net.set_weights(start)
    model = AdversarialTrainingModel(net, attack, objective, seed=1)
    model.compile("sgd", sparse_loss())
    model.fit(images, labels, shuffle=False, verbose=0)
    return net.get_weights()


class TestTRADES:
    @pytest.mark.parametrize(("beta", "total"), [(1.0, 0.86210495), (6.0, 2.97168118)])
    def test_totals_of_appendix_b(self, beta, total):
        losses, _, _ = of_logits(TRADES(beta=beta), CLEAN, [0], ATTACKED)
        np.testing.assert_allclose(losses, [total], rtol=1e-6)

    def test_matches_scipy(self, images, labels):
        net = small_net()
        model = AdversarialTrainingModel(net, PGD(0.1), TRADES(beta=2.0))
        model.compile("sgd", sparse_loss())
        adversarial = images[:, ::-1]
        found, clean, outputs = model.objective(model, images, labels, adversarial)
        np.testing.assert_array_equal(clean, net(images))
        np.testing.assert_array_equal(outputs, net(adversarial))
        divergence = rel_entr(softmax(clean, axis=1), softmax(outputs, axis=1))
        expected = 2.0 * divergence.sum(axis=1)
        expected -= log_softmax(clean, axis=1)[range(6), labels]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_trains_as_a_users_trades(self, net, images, labels):
        start, attack = net.get_weights(), PGD(0.1, steps=2)
        one, other = (
            _trained(start, images, labels, each, attack)
            for each in (TRADES(), Trades())
        )
        for ours, users in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, users, atol=1e-5)

    def test_without_weight_it_is_plain_training(self, net, images, labels):
        start = net.get_weights()
        plain = _trained(start, images, labels, CrossEntropy())
        attack = PGD(0.1, steps=1)
        found = _trained(start, images, labels, TRADES(beta=0.0), attack)
        for ours, expected, before in zip(found, plain, start, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-7)
            assert np.any(ours != before)

    def test_an_attack_that_starts_at_the_image_never_moves(
        self, images, labels, in_every_mode
    ):
        """Hence the noise at its start."""
        net = small_net()
        attack = PGD(0.1, steps=3, loss=TRADES.inner_loss, random_start=False)
        for found in in_every_mode(
            lambda images: attack(net, images, labels, seed=0), tf.constant(images)
        ):
            np.testing.assert_array_equal(found, images)
        noisy = attack.replace(random_start=TRADES.inner_start)
        moved = np.abs(noisy(net, images, labels, seed=0) - images)
        assert moved.max(axis=(1, 2, 3)).min() > 0.09

    def test_gradients_flow_through_both_predictions(self):
        clean, attacked = (softmax(each[0]) for each in (CLEAN, ATTACKED))
        gap = np.log(clean / attacked)
        towards_clean = clean * (gap - np.sum(clean * gap))
        towards_clean[:] += (clean - np.eye(4)[0]) / 2.0
        _, *found = of_logits(TRADES(beta=2.0), CLEAN, [0], ATTACKED)
        np.testing.assert_allclose(found[0][0], 2.0 * towards_clean, atol=1e-6)
        np.testing.assert_allclose(found[1][0], 2.0 * (attacked - clean), atol=1e-6)

    def test_soft_labels_count_in_the_clean_term(self):
        rows = np.array([[0.25, 0.75, 0.0, 0.0]])
        losses, _, _ = of_logits(TRADES(beta=1.0), CLEAN, rows, ATTACKED)
        expected = 0.42191525 - rows @ log_softmax(CLEAN[0])
        np.testing.assert_allclose(losses, expected, rtol=1e-6)

    def test_needs_an_attack(self, net):
        with pytest.raises(ValueError, match=r"on which `TRADES` trains. Received"):
            AdversarialTrainingModel(net, objective=TRADES())

    @pytest.mark.parametrize("beta", [-1.0, None, float("nan")])
    def test_rejects(self, beta):
        with pytest.raises(ValueError, match="`TRADES` expects `beta`"):
            TRADES(beta=beta)
