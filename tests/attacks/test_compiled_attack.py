import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.attacks._compiled_attack import compiled_attack
from tests.support.nets import linear_net, small_net
from tests.support.threads import run_together

_IMAGES = np.full((2, 2, 1, 1), 0.6, "float32")


def _net(sign=1.0):
    """Its first class grows with the first pixel, or falls with it."""
    return linear_net(sign * np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2))


def _collect():
    # What was set aside before the test, then the model, then what it alone had kept.
    gc.unfreeze()
    gc.collect()
    gc.collect()


def test_functions_are_kept_for_the_same_attack_and_model(net):
    attack = FGSM(0.1)
    first = compiled_attack(attack, net)
    assert compiled_attack(attack, net) is first
    assert compiled_attack(FGSM(0.1), net) is not first
    attack.step_size = 0.05
    second = compiled_attack(attack, net)
    assert second is not first
    net.add(net.layers[-1].__class__(3))
    assert compiled_attack(attack, net) is not second


def test_they_are_kept_for_the_last_models_only():
    attack, nets = FGSM(0.1), [_net() for _ in range(5)]
    first, *rest = [compiled_attack(attack, net) for net in nets]
    assert [compiled_attack(attack, net) for net in nets[1:]] == rest
    assert compiled_attack(attack, nets[0]) is not first


def test_they_keep_neither_model_nor_attack(images, labels):
    attack, net = PGD(0.1, steps=2), small_net()
    for stop_early in (False, True):
        attack.generate(net, images, labels, verbose=0, stop_early=stop_early)
    compiled = weakref.ref(compiled_attack(attack, net))
    model = weakref.ref(net)
    del net
    _collect()
    assert model() is None
    assert compiled() is None
    other = _net()
    attack.generate(other, _IMAGES, [0, 0], verbose=0)
    user = weakref.ref(attack)
    compiled = weakref.ref(compiled_attack(attack, other))
    del attack
    _collect()
    assert user() is None
    assert compiled() is None


def test_a_model_without_weak_references():
    class Plain:
        __slots__ = ()

        def __call__(self, images):
            return tf.reshape(images, [-1, 2])

    attack, model = FGSM(0.1), Plain()
    found = attack.generate(model, _IMAGES, [0, 0], verbose=0)
    np.testing.assert_allclose(found[0].ravel(), [0.5, 0.7], rtol=1e-6)
    assert compiled_attack(attack, model) is compiled_attack(attack, model)
    assert compiled_attack(attack, Plain()) is not compiled_attack(attack, model)


@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.nightly)])
def test_threads_that_share_an_attack_get_their_own_models(rounds):
    # Each net tells by which pixels move, and where to; more nets than are kept.
    slopes = [slope for slope in itertools.product((-1, 0, 1), repeat=2) if any(slope)]
    nets = [linear_net(np.outer([1.0, -1.0], slope), np.zeros(2)) for slope in slopes]
    expected = [(0.6 - 0.1 * np.array(slope)).reshape(2, 1, 1) for slope in slopes]
    attack = FGSM(0.1)

    def work(place):
        def alternate(turn):
            which = (place + turn) % len(nets)
            for _ in range(1000):
                compiled = compiled_attack(attack, nets[which])
                assert compiled.fits(nets[which], compiled.signature)
            found = attack.generate(nets[which], _IMAGES, [0, 0], verbose=0)
            return np.abs(found - expected[which]).max()

        return alternate

    assert len(nets) == 8
    assert np.max(run_together([work(place) for place in range(8)], rounds)) < 1e-6
