import numpy as np
import tensorflow as tf

from keras_advdef.attacks.losses import KLToClean

CLEAN = tf.constant([[2.0, 1.0, 0.0, -1.0]])
OTHER = tf.constant([[0.5, 1.5, 0.0, -1.0]])


def _divergence(clean, other):
    log_clean = KLToClean().reference(lambda _: clean, None, None)
    return KLToClean().from_logits(other, None, log_clean).numpy().item()


class TestKLToClean:
    def test_direction_of_appendix_b(self):
        np.testing.assert_allclose(_divergence(CLEAN, OTHER), 0.42191525, atol=1e-6)
        np.testing.assert_allclose(_divergence(OTHER, CLEAN), 0.39454269, atol=1e-6)

    def test_is_zero_with_zero_gradient_at_the_clean_image(self):
        with tf.GradientTape() as tape:
            tape.watch(CLEAN)
            value = KLToClean().from_logits(CLEAN, None, tf.nn.log_softmax(CLEAN))
        assert abs(value.numpy().item()) < 1e-6
        np.testing.assert_allclose(
            tape.gradient(value, CLEAN), np.zeros((1, 4)), atol=1e-6
        )

    def test_stays_finite_at_large_logits(self):
        assert _divergence(1000 * CLEAN, 1000 * OTHER) > 100
