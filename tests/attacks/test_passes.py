"""What an attack says it costs is what a net is called with."""

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import (
    APGD,
    DDN,
    FAB,
    FGSM,
    FMN,
    JSMA,
    PDPGD,
    PGD,
    SPSA,
    AutoAttack,
    BoundaryAttack,
    CarliniWagner,
    DeepFool,
    Passes,
    SigmaZero,
    Square,
    Transfer,
)
from keras_advdef.attacks.losses import MemberDLR, TargetedDLR
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key

_CLASSES = 4


class Counter:
    """A net that keeps its class, and counts eager passes."""

    def __init__(self):
        self.forward = self.backward = 0

    def __call__(self, images):
        @tf.custom_gradient
        def counted(values):
            self.forward += 1

            def gradient(upstream):
                self.backward += 1
                return upstream

            return tf.identity(values), gradient

        means = counted(tf.reduce_mean(images, axis=(1, 2, 3)))
        return tf.stack([10.0 + means, means, -means, 0.5 * means], axis=1)


def _passes(attack, **settings):
    counter = Counter()
    images = tf.fill((1, 4, 4, 1), 0.5)
    logits_fn = LogitsFunction(counter)
    attack.perturb(
        logits_fn, images, tf.constant([0]), tf.constant(0.1), make_key(0), **settings
    )
    return Passes(counter.forward, counter.backward)


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(0.1),
        PGD(0.1, steps=3),
        PGD(0.1, steps=2, restarts=2, eot_samples=3),
        PGD(0.1, steps=3, return_best=False),
        PGD(0.1, steps=12, eot_samples=5, early_eot_samples=2),
        APGD(0.1, steps=21, eot_samples=3, early_eot_samples=1, restarts=2),
        PGD(0.1, steps=3, loss="kl"),
        APGD(0.1, steps=3, loss=TargetedDLR(2)),
        SPSA(0.1, steps=2, samples=3),
        Square(0.1, queries=5, restarts=2),
        FAB(0.1, steps=3, restarts=2),
        FAB(0.1, steps=3, target_classes=2, eot_samples=2),
        DeepFool(0.1, steps=3, candidates=2),
        DDN(0.1, steps=3),
        FMN(0.1, steps=3, eot_samples=2),
        PDPGD(0.1, steps=3),
        SigmaZero(1, steps=3),
        AutoAttack(0.1, steps=2, queries=3),
        AutoAttack(0.1, version="fast", steps=2, queries=10),
    ],
    ids=str,
)
def test_passes_are_those_of_an_image_that_stands(attack):
    assert _passes(attack) == attack.passes(_CLASSES)


@pytest.mark.parametrize(
    "attack",
    [
        JSMA(6, gamma=1.0),
        BoundaryAttack(3.0, steps=10, starting_tries=4),
        # Stops where it makes no more progress.
        CarliniWagner(0.1, steps=4, binary_search_steps=2),
    ],
    ids=str,
)
def test_passes_are_at_least_those_of_an_image(attack):
    assert np.all(np.less_equal(_passes(attack), attack.passes(_CLASSES)))


def test_a_loss_of_its_own_passes_counts_twice():
    assert PGD(0.1, steps=3, loss=MemberDLR()).passes(_CLASSES) == Passes(8, 3)


def test_a_transfer_costs_what_its_attack_does_on_the_surrogate():
    assert Transfer(len, PGD(0.1, steps=3)).passes(_CLASSES) == Passes(4, 3)


@pytest.mark.parametrize(
    "attack",
    [FGSM(0.1), PGD(0.1, steps=3, random_start=False)],
    ids=["FGSM", "PGD"],
)
def test_generate_makes_no_other_passes_from_a_clean_start(attack):
    forward, backward = (tf.Variable(0, trainable=False) for _ in range(2))

    @tf.custom_gradient
    def counted(values):
        forward.assign_add(1)

        def gradient(upstream):
            backward.assign_add(1)
            return upstream

        return tf.identity(values), gradient

    def net(images):
        means = counted(tf.reduce_mean(images, axis=(1, 2, 3)))
        return tf.stack([10.0 + means, means, -means], axis=1)

    images = np.full((2, 4, 4, 1), 0.5, "float32")
    # The first call looks once more at how the net ends.
    for _ in range(2):
        forward.assign(0)
        backward.assign(0)
        attack.generate(net, images, [0, 0], verbose=0)
    assert Passes(int(forward), int(backward)) == attack.passes(3)
