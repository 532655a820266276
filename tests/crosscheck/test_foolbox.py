"""Our attacks against those of Foolbox."""

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.boundary_attack import BoundaryAttack
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.pgd import PGD
from tests.crosscheck import (
    assert_as_near,
    assert_as_strong,
    crafted,
    found_norms,
    inner,
    norms,
    standing,
)

foolbox = pytest.importorskip("foolbox", reason="needs the extra `crosscheck`")

STEPS = 20
SEEDS = range(5)
FEW = 20


def their(attack, net, images, labels, epsilon=None):
    """What an attack of Foolbox makes of the images, clipped to epsilon if there is."""
    model = foolbox.TensorFlowModel(net, bounds=(0, 1), device="/CPU:0")
    arguments = tf.constant(images), tf.constant(labels)
    return attack(model, *arguments, epsilons=epsilon)[1].numpy()


def test_fgsm_gives_the_same_images(trained_net, digits):
    images, labels = standing(trained_net, digits)
    theirs = foolbox.attacks.LinfFastGradientAttack()
    expected = their(theirs, trained_net, images, labels, 0.1)
    ours = crafted(FGSM(0.1), trained_net, images, labels)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "epsilon", "attack"),
    [
        ("linf", 0.1, "LinfProjectedGradientDescentAttack"),
        ("l2", 0.6, "L2ProjectedGradientDescentAttack"),
    ],
)
def test_pgd_gives_the_same_images(trained_net, digits, norm, epsilon, attack):
    images, labels = standing(trained_net, digits)
    images = inner(images)
    options = {"steps": STEPS, "random_start": False}
    theirs = getattr(foolbox.attacks, attack)(abs_stepsize=epsilon / 4, **options)
    expected = their(theirs, trained_net, images, labels, epsilon)
    ours = PGD(epsilon, norm=norm, step_size=epsilon / 4, return_best=False, **options)
    result = crafted(ours, trained_net, images, labels)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "epsilon", "attack"),
    [
        ("linf", 0.08, "LinfProjectedGradientDescentAttack"),
        ("l2", 0.5, "L2ProjectedGradientDescentAttack"),
        ("l1", 3.0, "L1ProjectedGradientDescentAttack"),
    ],
)
def test_pgd_from_random_starts_is_as_strong(
    trained_net, digits, norm, epsilon, attack
):
    images, labels = standing(trained_net, digits)
    theirs = getattr(foolbox.attacks, attack)(rel_stepsize=2.5 / STEPS, steps=STEPS)
    ours = PGD(epsilon, norm=norm, steps=STEPS)
    assert_as_strong(
        trained_net,
        labels,
        ours=[crafted(ours, trained_net, images, labels, seed) for seed in SEEDS],
        theirs=[their(theirs, trained_net, images, labels, epsilon) for _ in SEEDS],
    )


@pytest.mark.parametrize(
    ("norm", "order", "attack"),
    [("l2", 2, "L2DeepFoolAttack"), ("linf", np.inf, "LinfDeepFoolAttack")],
)
def test_deep_fool_is_as_near(trained_net, digits, norm, order, attack):
    images, labels = standing(trained_net, digits)
    theirs = getattr(foolbox.attacks, attack)(candidates=3)
    expected = norms(their(theirs, trained_net, images, labels), images, order)
    ours = found_norms(DeepFool(norm=norm), trained_net, images, labels)
    assert_as_near(ours, expected)


@pytest.mark.nightly
def test_carlini_wagner_is_as_near(trained_net, digits):
    images, labels = standing(trained_net, digits)
    common = {"steps": 100, "binary_search_steps": 3}
    theirs = foolbox.attacks.L2CarliniWagnerAttack(
        stepsize=0.05, initial_const=1.0, **common
    )
    expected = norms(their(theirs, trained_net, images, labels), images, 2)
    ours = CarliniWagner(learning_rate=0.05, initial_constant=1.0, **common)
    assert_as_near(found_norms(ours, trained_net, images, labels), expected)


@pytest.mark.nightly
def test_boundary_attack_is_as_near(trained_net, digits):
    images, labels = standing(trained_net, digits, FEW)
    theirs = foolbox.attacks.BoundaryAttack(steps=300)
    expected = norms(their(theirs, trained_net, images, labels), images, 2)
    ours = found_norms(BoundaryAttack(steps=300), trained_net, images, labels)
    assert_as_near(ours, expected)


@pytest.mark.nightly
def test_hop_skip_jump_is_as_near(trained_net, digits):
    images, labels = standing(trained_net, digits, FEW)
    theirs = foolbox.attacks.HopSkipJumpAttack(steps=5)
    expected = norms(their(theirs, trained_net, images, labels), images, 2)
    ours = found_norms(HopSkipJump(steps=5), trained_net, images, labels)
    assert_as_near(ours, expected)
