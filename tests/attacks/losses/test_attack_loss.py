import pytest
import tensorflow as tf

from keras_advdef.attacks.losses import AttackLoss


class Total(AttackLoss):
    def __call__(self, logits_fn, images, labels, reference=None):
        return tf.reduce_sum(images, axis=(1, 2, 3))


class TestAttackLoss:
    def test_default_brings_the_logits_from_a_second_pass(self, net, images, labels):
        losses, logits = Total().with_logits(net, images, labels, None)
        assert losses.shape == (6,)
        assert bool(tf.reduce_all(logits == net(images)))
        assert Total().reference(net, images, labels) is None

    def test_round_trip(self):
        assert isinstance(Total.from_config(Total().get_config()), Total)

    def test_base_has_no_value(self, net, images, labels):
        with pytest.raises(NotImplementedError, match="must write `__call__`"):
            AttackLoss()(net, images, labels)
