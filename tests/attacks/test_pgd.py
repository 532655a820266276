import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD
from tests.support.check_attack import distance

CONTRACT = [
    {"epsilon": 0.1, "steps": 3},
    {"epsilon": 0.5, "norm": "l2", "steps": 11, "restarts": 2},
    {"epsilon": 2.0, "norm": "l1", "steps": 3},
    {"epsilon": 0.1, "steps": 3, "momentum": 1.0},
    {"epsilon": 0.1, "steps": 2, "loss": "margin"},
    {"epsilon": 0.1, "steps": 2, "loss": "kl", "random_start": "gaussian"},
    {"epsilon": 0.1, "steps": 2, "eot_samples": 2, "random_start": "surface"},
    {"epsilon": 0.1, "steps": 2, "return_best": False},
]


class TestPGD:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_one_full_step_is_fgsm(self, norm, net, images, labels):
        one = PGD(
            0.2,
            norm=norm,
            steps=1,
            step_size=0.2,
            random_start=False,
            return_best=False,
        )
        fgsm = FGSM(0.2, norm=norm)
        np.testing.assert_array_equal(
            one(net, images, labels), fgsm(net, images, labels)
        )

    def test_default_step_size_crosses_the_ball(self, net, images, labels):
        # 2.5 * .1 / 4 = .0625 per step: after one step at most that far.
        attack = PGD(0.1, steps=4, random_start=False)
        assert float(attack.default_step_size(0.1)) == pytest.approx(0.0625)
        full = attack(net, images, labels)
        assert distance(full, images, "linf").max() == pytest.approx(0.1, abs=1e-6)

    def test_names_itself_after_its_steps(self):
        assert str(PGD(0.3)) == "PGD-40"
        assert str(PGD(0.3, steps=100, restarts=5)) == "PGD-100 x 5"
