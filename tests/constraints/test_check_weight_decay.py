import keras
import numpy as np
import pytest

from keras_advdef.callbacks import SingularValues
from keras_advdef.constraints import Parseval, check_weight_decay
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss


def net_with(constraint):
    layer = keras.layers.Dense(3, kernel_constraint=constraint)
    return keras.Sequential([keras.Input((4,)), layer])


def test_decay_that_wins_is_refused():
    net = net_with(Parseval(beta=0.01))
    with pytest.raises(ValueError, match=r"to be below 0\.1, which is beta"):
        check_weight_decay(net, keras.optimizers.SGD(0.1, weight_decay=0.1))


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, weight_decay=0.09),
        keras.optimizers.SGD(0.1),
        keras.optimizers.AdamW(1e-3, weight_decay=0.004),
    ],
    ids=["little", "none", "adamw"],
)
def test_decay_that_loses_is_accepted(optimizer):
    check_weight_decay(net_with(Parseval(beta=0.01)), optimizer)


def test_other_kernels_may_decay():
    decaying = keras.optimizers.SGD(0.1, weight_decay=0.1)
    check_weight_decay(net_with(None), decaying)
    excluding = keras.optimizers.SGD(0.1, weight_decay=0.1)
    excluding.exclude_from_weight_decay(var_names=["kernel"])
    check_weight_decay(net_with(Parseval()), excluding)


def test_training_refuses_it_before_the_first_step():
    net, x, y = net_with(Parseval(beta=0.01)), np.zeros((2, 4)), np.zeros(2)
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    model = AdversarialTrainingModel(net)
    model.compile(optimizer, sparse_loss())
    with pytest.raises(ValueError, match="`Parseval` expects `weight_decay`"):
        model.fit(x, y, verbose=0)
    net.compile(keras.optimizers.SGD(0.1, weight_decay=0.5), sparse_loss())
    with pytest.raises(ValueError, match="`Parseval` expects `weight_decay`"):
        net.fit(x, y, callbacks=[SingularValues()], verbose=0)


def test_decay_behind_loss_scaling_is_seen():
    inner = keras.optimizers.SGD(0.1, weight_decay=0.5)
    scaled = keras.optimizers.LossScaleOptimizer(inner)
    with pytest.raises(ValueError, match="`Parseval` expects `weight_decay`"):
        check_weight_decay(net_with(Parseval(beta=0.01)), scaled)
