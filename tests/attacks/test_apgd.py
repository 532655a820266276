import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, PGD
from tests.attacks.test_gradient_attack import NEAREST, POINT
from tests.support.check_attack import inside
from tests.support.nets import linear_net

CONTRACT = [
    {"epsilon": 0.1, "steps": 12},
    {"epsilon": 0.5, "norm": "l2", "steps": 12, "loss": "dlr"},
    {"epsilon": 3.0, "norm": "l1", "steps": 12},
]


class TestAPGD:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_succeeds_exactly_beyond_the_boundary_of_a_linear_model(self, norm):
        net = linear_net(np.eye(2), np.zeros(2))
        attack = APGD(norm=norm, steps=50, loss="margin")
        for factor, broken in ((0.995, False), (1.005, True)):
            result = attack(net, POINT, [0], epsilon=factor * NEAREST[norm], seed=0)
            assert (np.argmax(net(result)) != 0) == broken
            assert inside(result, POINT, factor * NEAREST[norm], norm)

    @pytest.mark.parametrize(
        ("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5), ("l1", 2)]
    )
    def test_as_strong_as_pgd_of_equal_passes(self, norm, epsilon, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        left = []
        for attack in (
            APGD(epsilon, norm=norm, steps=30),
            PGD(epsilon, norm=norm, steps=30),
        ):
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            left.append(np.sum(attack.predict(trained_net, found) == y))
        assert 0 < left[0] <= left[1] + 2

    def test_dlr_does_not_care_for_the_scale_of_the_logits(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        left = []
        for scale in (1.0, 1e3):
            attack = APGD(0.1, steps=20, loss="dlr")
            found = attack(
                lambda images, s=scale: s * trained_net(images), x, y, seed=0
            )
            left.append(np.sum(np.argmax(trained_net(found), axis=-1) == y))
        assert abs(left[0] - left[1]) <= 1

    def test_targeted_dlr_tries_every_wrong_class(self):
        # Class 3 is the least likely, yet the only one within reach: its logit rises
        # ten times as fast.
        weights = np.zeros((4, 2))
        weights[3] = [0.0, 10.0]
        net = linear_net(weights, np.array([1.0, 0.5, 0.4, -2.0]))
        x = np.array([0.5, 0.2], "float32").reshape(1, 2, 1, 1)
        for attack in (
            APGD(0.2, steps=5, loss="targeted_dlr"),
            APGD(0.2, steps=5, loss="targeted_dlr", restarts=2),
        ):
            found = attack(net, x, [0], seed=0)
            assert int(np.argmax(net(found))) == 3
            early = attack.generate(net, x, [0], seed=0, verbose=0, stop_early=True)
            assert int(np.argmax(net(early))) == 3

    def test_below_four_classes_it_says_that_the_margin_takes_over(self, net, images):
        with pytest.warns(UserWarning, match="needs 4 classes, the model has 3"):
            APGD(0.1, steps=1, loss="targeted_dlr")(net, images, [0] * 6)

    def test_early_stopping_breaks_the_same_images(self, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        attack, broken = APGD(0.1, steps=25), []
        for early in (False, True):
            found = attack.generate(
                trained_net, x, y, seed=0, batch_size=64, verbose=0, stop_early=early
            )
            assert inside(found, x, 0.1, "linf")
            broken.append(attack.predict(trained_net, found) != y)
        assert 0.1 < np.mean(broken[0]) < 0.95
        assert np.mean(broken[0] == broken[1]) >= 0.97

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_no_gradient_gives_no_nan(self, norm, images, labels):
        def constant(batch):
            return tf.reduce_sum(batch, (1, 2, 3))[:, None] * tf.zeros((1, 4))

        for loss in ("cross_entropy", "dlr", "targeted_dlr"):
            attack = APGD(0.1, norm=norm, steps=4, loss=loss)
            assert np.isfinite(attack(constant, images, labels, seed=0)).all()

    def test_names_itself(self):
        assert str(APGD(0.1, restarts=2)) == "APGD-100 on cross_entropy x 2"
