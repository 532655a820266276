import copy
import pickle

import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD, DeepFool, Transfer
from tests.support.nets import linear_net, small_net

CONTRACT = "it crafts on another model; its attack keeps the contract"


class TestTransfer:
    def test_images_are_the_surrogates(self, net, images, labels):
        other = small_net()
        attack = PGD(0.1, steps=3)
        for one, two in (
            (attack(net, images, labels, seed=0), None),
            (attack.generate(net, images, labels, seed=0, verbose=0), 1),
        ):
            transfer = Transfer(net, attack)
            if two:
                got = transfer.generate(other, images, labels, seed=0, verbose=0)
            else:
                got = transfer(other, images, labels, seed=0)
            np.testing.assert_array_equal(one, got)

    def test_what_fools_the_surrogate_fools_its_twin(self):
        surrogate = linear_net(np.eye(2), np.zeros(2))
        twin = linear_net(2 * np.eye(2), np.zeros(2))
        x = np.array([0.6, 0.2], "float32").reshape(1, 2, 1, 1)
        found = Transfer(surrogate, FGSM(0.21))(twin, x, [0])
        assert int(np.argmax(twin(found))) == 1

    def test_minimal_attacks_need_no_epsilon(self, trained_net, digits):
        x, y = digits.x_test[:6], digits.y_test[:6]
        attack = DeepFool()
        found = Transfer(trained_net, attack)(small_net(), x, y, seed=0)
        np.testing.assert_array_equal(found, attack(trained_net, x, y, seed=0))

    def test_copies_bring_their_surrogate(self, net, images, labels):
        transfer = Transfer(net, FGSM(0.1))
        found = transfer.generate(small_net(), images, labels, seed=0, verbose=0)
        for copied in (copy.deepcopy(transfer), pickle.loads(pickle.dumps(transfer))):
            again = copied(small_net(), images, labels, seed=0)
            np.testing.assert_allclose(again, found, atol=1e-6)

    def test_replace_changes_the_attack(self, net):
        assert Transfer(net, FGSM(0.1)).replace(epsilon=0.2).epsilon == 0.2

    def test_says_why_it_has_no_configuration(self, net):
        with pytest.raises(TypeError, match="a configuration holds no weights"):
            Transfer(net, FGSM(0.1)).get_config()
        assert "FGSM" in repr(Transfer(net, FGSM(0.1)))
        assert str(Transfer(net, PGD(0.1))) == "transferred PGD-40"

    def test_rejects(self, net):
        with pytest.raises(TypeError, match="`Transfer` expects `attack`"):
            Transfer(net, "PGD")
