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

    def test_an_unclipped_start_leaves_black_pixels_inside_the_ball(self):
        """From noise in [-0.1, 0.1], a step of 0.125 ends in [0.025, 0.1]."""

        def model(images):
            flat = tf.reshape(images, [-1, 16])
            return tf.concat([0.0 * flat[:, :1], flat[:, :1]], axis=1)

        images, labels = np.zeros((500, 4, 4, 1), "float32"), np.zeros(500, int)
        clipped, unclipped = (
            FGSM(0.1, random_start=start, step_size=0.125)(
                model, images, labels, seed=0
            ).numpy()[:, 0, 0, 0]
            for start in (True, "unclipped")
        )
        np.testing.assert_allclose(clipped, 0.1, atol=1e-6)
        assert unclipped.min() < 0.03
        # Three in eight of the draws end before the surface.
        inside_ball = unclipped < 0.1 - 1e-6
        assert np.mean(inside_ball) == pytest.approx(0.375, abs=0.07)

    def test_rejects_epsilon_above_the_range(self):
        with pytest.raises(ValueError, match="the width of the value range"):
            FGSM(1.5)
