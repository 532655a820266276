import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.losses import TargetedDLR

CONTRACT = [{"classes": 2}]

LOGITS = tf.constant([[2.0, 1.0, 0.0, -1.0]])


@pytest.mark.parametrize(("target", "value"), [(1, -0.4), (3, -1.2)])
def test_fixture(target, value):
    # (z_t - z_0) / (z_1 - (z_3 + z_4) / 2), the latter 2 + .5 = 2.5.
    loss = TargetedDLR().from_logits(LOGITS, tf.constant([0]), tf.constant([target]))
    assert float(loss[0]) == pytest.approx(value, abs=1e-6)


def test_runs_aim_at_wrong_classes_by_rank():
    labels = tf.constant([1], tf.int64)
    targets = [
        int(TargetedDLR(2).prepare(lambda _: LOGITS, None, labels, tf.constant(run))[0])
        for run in range(4)
    ]
    assert targets == [0, 2, 0, 2]


def test_number_of_targets():
    assert TargetedDLR().targets(10) == 9
    assert TargetedDLR(5).targets(10) == 5
    with pytest.warns(UserWarning, match="margin"):
        assert TargetedDLR().targets(3) == 2


def test_below_four_classes_it_is_the_margin_to_the_target():
    loss = TargetedDLR().from_logits(LOGITS[:, :3], tf.constant([0]), tf.constant([2]))
    np.testing.assert_allclose(loss, [-2.0])


def test_rejects():
    with pytest.raises(ValueError, match="`TargetedDLR` expects `classes`"):
        TargetedDLR(0)
