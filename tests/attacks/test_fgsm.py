import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from tests.support.check_attack import distance, inside

CONTRACT = [
    {"epsilon": 0.1},
    {"epsilon": 0.1, "random_start": True, "step_size": 0.125},
]


class TestFGSM:
    def test_is_the_sign_of_the_gradient(self, net, images, labels):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, net(x))
        sign = np.sign(tape.gradient(loss, x))
        expected = np.clip(images + 0.1 * sign, 0, 1)
        result = FGSM(0.1)(net, images, labels)
        # Gradients within rounding of zero may have either sign.
        assert np.mean(np.abs(result - expected) < 1e-6) > 0.99

    def test_l2_step_has_the_length_of_epsilon(self, net, images, labels):
        result = FGSM(0.04, norm="l2")(net, images, labels)
        np.testing.assert_allclose(distance(result, images, "l2"), 0.04, rtol=1e-4)

    def test_random_start_is_fast_adversarial_training(self, net, images, labels):
        attack = FGSM(0.08, random_start=True, step_size=0.1)
        result = attack(net, images, labels, seed=0)
        assert inside(result, images, 0.08, "linf")
        assert np.any(result != attack(net, images, labels, seed=1))

    def test_rejects_epsilon_above_the_range(self):
        with pytest.raises(ValueError, match="the width of the value range"):
            FGSM(1.5)
