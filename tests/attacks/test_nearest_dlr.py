import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._nearest_dlr import NearestDLR
from keras_advdef.attacks.losses import TargetedDLR
from keras_advdef.core.logits import LogitsFunction

# Margins of classes 1 to 4 over class 0 at the point, and their gradients.
MARGINS = [-1.0, -2.0, -3.0, -4.0]
GRADIENTS = [[1.0, 0.0], [3.0, 4.0], [0.0, 10.0], [0.0, 0.0]]
# Distances 1, 2/7, 3/10 in linf; 1, 2/5, 3/10 in l2; 1, 1/2, 3/10 in l1.
ORDERS = {"linf": [2, 3, 1, 4], "l2": [3, 2, 1, 4], "l1": [3, 2, 1, 4]}
POINT = tf.constant([[0.5, 0.25]])


def _linear(images):
    weights = tf.constant([[0.0, 0.0], *GRADIENTS])
    margins = tf.constant([0.0, *MARGINS])
    return margins + tf.linalg.matmul(images - POINT, weights, transpose_b=True)


def _aims(loss, runs, labels=(0,)):
    labels = tf.constant(labels, tf.int64)
    images = tf.tile(POINT, (len(labels), 1))
    return [
        loss.prepare(LogitsFunction(_linear), images, labels, tf.constant(run))
        for run in range(runs)
    ]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_runs_aim_at_the_nearest_classes_in_the_norm(norm):
    found = [int(aim[0]) for aim in _aims(NearestDLR(4, norm=norm), 5)]
    assert found == [*ORDERS[norm], ORDERS[norm][0]]


def test_only_candidates_are_ranked():
    found = [int(aim[0]) for aim in _aims(NearestDLR(4, candidates=2), 3)]
    assert found == [2, 1, 2]


def test_each_image_has_its_own_targets():
    # From class 1: 1 - 0 is 1 away by (1, 0), and 2 is 1 away from it by (2, 4).
    first = _aims(NearestDLR(1), 1, labels=(0, 1))[0]
    assert first.numpy().tolist() == [2, 2]
    assert first.dtype == tf.int64


def test_targets_and_passes():
    loss = NearestDLR(3, candidates=5)
    assert [loss.targets(classes) for classes in (10, 4, 100)] == [3, 3, 3]
    assert [loss.backward_looks(classes) for classes in (10, 4, 100)] == [5, 3, 5]
    assert NearestDLR(9, candidates=2).targets(10) == 2
    assert TargetedDLR(3).backward_looks(10) == 0


def test_it_is_the_targeted_ratio():
    logits = tf.constant([[2.0, 1.0, 0.0, -1.0]])
    pair = tf.constant([0]), tf.constant([3])
    found = NearestDLR().from_logits(logits, *pair)
    np.testing.assert_array_equal(found, TargetedDLR().from_logits(logits, *pair))


def test_config():
    config = {"classes": 2, "candidates": 4, "norm": "l2"}
    assert NearestDLR.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("arguments", "name"), [({"candidates": 0}, "candidates"), ({"norm": "l0"}, "norm")]
)
def test_rejects(arguments, name):
    with pytest.raises(ValueError, match=f"`NearestDLR` expects `{name}`"):
        NearestDLR(**arguments)
