import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.losses import LogitsLoss


class Largest(LogitsLoss):
    def from_logits(self, logits, labels, reference):
        return tf.reduce_max(logits, axis=-1)


class TestLogitsLoss:
    def test_shares_one_pass(self, images, labels):
        calls = []

        def logits_fn(inputs):
            calls.append(1)
            return tf.reduce_sum(inputs, axis=(2, 3))

        losses, logits = Largest().with_logits(logits_fn, images, labels, None)
        np.testing.assert_array_equal(losses, np.max(logits, axis=-1))
        assert len(calls) == 1
        np.testing.assert_array_equal(Largest()(logits_fn, images, labels), losses)

    def test_base_has_no_value(self, net, images, labels):
        with pytest.raises(NotImplementedError, match="must write `from_logits`"):
            LogitsLoss()(net, images, labels)
