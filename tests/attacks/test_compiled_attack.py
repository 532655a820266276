import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, FGSM, PGD, Attack, Square
from keras_advdef.attacks._compiled_attack import CompiledAttack
from keras_advdef.core import ModelView
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import fold_in, make_key
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


def _function(attack, model, name="look"):
    return CompiledAttack(attack, model).function(name)


def test_attacks_that_differ_in_numbers_share_their_functions(net):
    first, linf = PGD(0.1, steps=20), {"norm": "linf"}
    same = [
        PGD(0.1, steps=20),
        PGD(0.3, steps=50, step_size=0.01),
        PGD(steps=7, restarts=3, random_start=False),
        FGSM(0.1, random_start=True),
    ]
    for name in ("look", "glance"):
        expected = _function(first, net, name)
        for other in (*same, APGD(0.1), APGD(0.2, norm="l2"), FGSM(0.1, norm="l1")):
            assert _function(other, net, name) is expected
        assert _function(PGD(eot_samples=2), net, name) is expected
        for other in (PGD(loss="dlr"), PGD(targeted=True), PGD(training=True)):
            assert _function(other, net, name) is not expected
    for other in same[:3]:
        assert _function(other, net, "move") is _function(first, net, "move")
    for other in (PGD(norm="l2"), PGD(return_best=False), APGD(**linf)):
        assert _function(other, net, "move") is not _function(first, net, "move")
    for name in ("start", "step", "settle"):
        one, two = (Square(0.1, queries=count) for count in (5, 500))
        assert _function(one, net, name) is _function(two, net, name)


def test_views_that_differ_in_temperature_share_their_functions(net):
    attack = PGD(0.1)
    expected = _function(attack, net)
    assert _function(attack, ModelView(net, temperature=9.0)) is expected
    # No layer of this net behaves otherwise in such a view.
    assert _function(attack, ModelView(net, smooth_gradients=True)) is expected
    assert _function(attack, ModelView(net, has_gradient=False)) is not expected
    bpda = ModelView(net, bpda_layers=(net.layers[0],))
    assert _function(attack, bpda) is not expected


def test_numbers_count_though_the_trace_is_shared(net, images, labels):
    settings = [(0.1, 3, None), (0.2, 5, None), (0.1, 3, 0.01), (0.05, 1, 0.5)]
    for momentum in (0.0, 0.7, 1.0):
        for epsilon, steps, step_size in settings:
            attack = PGD(epsilon, steps=steps, step_size=step_size, momentum=momentum)
            found = attack.generate(net, images, labels, seed=3, verbose=0)
            key = fold_in(make_key(3), 0)
            unit, radius = tf.constant(images), tf.constant(epsilon)
            logits_fn = LogitsFunction(net)
            expected = attack.perturb(logits_fn, unit, tf.constant(labels), radius, key)
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_any_number_of_images_shares_one_trace(net, images, labels):
    attack = PGD(0.1, steps=2)
    for count in (1, 2, len(images)):
        attack.generate(net, images[:count], labels[:count], verbose=0)
    assert _function(attack, net).traces == 1


def test_a_model_that_needs_the_number_of_images_is_traced_for_each():
    seen = []

    def model(images):
        seen.append(images.shape[0])
        return tf.reshape(images, [int(images.shape[0]), 2])

    attack = PGD(0.1, steps=2)
    for count in (1, 2):
        found = attack.generate(model, _IMAGES[:count], [0] * count, verbose=0)
        assert found.shape == _IMAGES[:count].shape
    assert {1, 2} <= set(seen)
    assert _function(attack, model).traces == 2


def test_a_class_of_a_user_shares_nothing_with_its_base(net):
    class Mine(PGD):
        def default_step_size(self, epsilon):
            return epsilon

    class Yours(PGD):
        pass

    for cls in (Mine, Yours):
        for name in ("look", "move", "start"):
            own = _function(cls(0.1), net, name)
            assert own is not _function(PGD(0.1), net, name)
            assert own is _function(cls(0.2), net, name)
            assert own is not _function(cls(0.1, steps=3), net, name)


def test_what_a_user_overrides_is_what_runs(net, images, labels):
    class Backwards(PGD):
        """Goes down where PGD goes up."""

        def slope(self, *arguments):
            losses, probabilities, gradient = super().slope(*arguments)
            return losses, probabilities, -gradient

    settings = {"steps": 3, "random_start": False, "return_best": False}
    up, down = (
        attack(0.1, **settings).generate(net, images, labels, verbose=0)
        for attack in (PGD, Backwards)
    )
    losses = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, net(each)).numpy()
        for each in (up, images, down)
    ]
    assert np.all(losses[0] >= losses[1])
    assert np.all(losses[1] >= losses[2])
    assert losses[0].mean() > losses[2].mean()


def test_a_changed_attack_or_model_gets_new_functions(net):
    attack = PGD(0.1)
    first = _function(attack, net)
    attack.targeted = True
    assert _function(attack, net) is not first
    attack.targeted = False
    assert _function(attack, net) is first
    net.add(net.layers[-1].__class__(3))
    assert _function(attack, net) is not first


def test_they_are_kept_for_the_last_models_only():
    attack, nets = FGSM(0.1), [_net() for _ in range(9)]
    first, *rest = [_function(attack, net) for net in nets]
    assert [_function(attack, net) for net in nets[1:]] == rest
    assert _function(attack, nets[0]) is not first


def test_they_keep_the_model_of_nobody(images, labels):
    attack, net = PGD(0.1, steps=2), small_net()
    for stop_early in (False, True):
        attack.generate(net, images, labels, verbose=0, stop_early=stop_early)
    function = weakref.ref(_function(attack, net))
    model = weakref.ref(net)
    del net
    _collect()
    assert model() is None
    assert function() is None


def test_an_attack_that_holds_other_objects_goes_with_its_functions():
    class Holder(Attack):
        def __init__(self, epsilon=None, *, held=None, **kwargs):
            super().__init__(epsilon, **kwargs)
            self.held = held

        def perturb(self, logits_fn, images, labels, epsilon, seed):
            return images

    class Thing:
        pass

    net, held = _net(), Thing()
    attack = Holder(0.1, held=held)
    attack.generate(net, _IMAGES, [0, 0], verbose=0)
    assert _function(attack, net, "craft") is _function(attack, net, "craft")
    other = Holder(0.1, held=held)
    assert _function(other, net, "craft") is not _function(attack, net, "craft")
    function = weakref.ref(_function(attack, net, "craft"))
    companion = weakref.ref(held)
    del attack, other, held
    _collect()
    assert function() is None
    assert companion() is None


def test_a_model_without_weak_references():
    class Plain:
        __slots__ = ()

        def __call__(self, images):
            return tf.reshape(images, [-1, 2])

    attack, model = FGSM(0.1), Plain()
    found = attack.generate(model, _IMAGES, [0, 0], verbose=0)
    np.testing.assert_allclose(found[0].ravel(), [0.5, 0.7], rtol=1e-6)
    assert _function(attack, model) is _function(attack, model)
    assert _function(attack, Plain()) is not _function(attack, model)


@pytest.mark.parametrize(
    ("rounds", "looks"),
    [(2, 100), pytest.param(100, 1000, marks=pytest.mark.nightly)],
)
def test_threads_that_share_an_attack_get_their_own_models(rounds, looks):
    # Each net tells by which pixels move, and where to; more nets than are kept.
    slopes = [slope for slope in itertools.product((-1, 0, 1), repeat=2) if any(slope)]
    nets = [linear_net(np.outer([1.0, -1.0], slope), np.zeros(2)) for slope in slopes]
    expected = [(0.6 - 0.1 * np.array(slope)).reshape(2, 1, 1) for slope in slopes]
    attack = FGSM(0.1)

    def work(place):
        def alternate(turn):
            which = (place + turn) % len(nets)
            for _ in range(looks):
                _function(attack, nets[which])
            found = attack.generate(nets[which], _IMAGES, [0, 0], verbose=0)
            return np.abs(found - expected[which]).max()

        return alternate

    assert len(nets) == 8
    assert np.max(run_together([work(place) for place in range(8)], rounds)) < 1e-6
