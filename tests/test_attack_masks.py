"""Attacks that may change some pixels only."""

import keras
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
    HopSkipJump,
    LatentSpaceAttack,
    MinimalAttack,
    SigmaZero,
    Square,
    Transfer,
)
from keras_advdef.core.norms import norm_per_image
from keras_advdef.layers import RandomNoise
from tests.support.linear_distances import exact_distances, linear_problem
from tests.support.nets import small_net

_TUNED = {"steps": 100, "learning_rate": 0.05, "initial_constant": 1.0}


def _nightly(*attacks):
    return [pytest.param(each, marks=pytest.mark.nightly) for each in attacks]


BALLS = [
    PGD(2.0, norm="l2", steps=5, restarts=2),
    PGD(0.3, steps=5, momentum=1.0, return_best=False, random_start=False),
    APGD(10.0, norm="l1", steps=20, restarts=2),
    SPSA(2.0, norm="l2", steps=3, samples=4),
    Square(2.0, norm="l2", queries=20),
    AutoAttack(0.3, steps=5, queries=10),
    *_nightly(
        FGSM(0.3),
        PGD(0.3, steps=5),
        PGD(10.0, norm="l1", steps=5, random_start="gaussian"),
        APGD(0.3, steps=10),
        APGD(2.0, norm="l2", steps=10, loss="dlr"),
        Square(0.3, queries=20),
        AutoAttack(10.0, norm="l1", version="fast", steps=5),
    ),
]
MINIMAL = [
    DeepFool(),
    CarliniWagner(binary_search_steps=3, **_TUNED),
    FAB(norm="l2", steps=10, restarts=2),
    DDN(steps=40),
    FMN(norm="linf", steps=40),
    PDPGD(norm="l1", steps=100),
    SigmaZero(steps=60),
    JSMA(gamma=1.0),
    *_nightly(
        DeepFool(norm="linf"),
        FAB(norm="linf", steps=10),
        FAB(norm="l1", steps=10, target_classes=2),
        FMN(norm="l2", steps=40),
        FMN(norm="l1", steps=40),
        FMN(norm="l0", steps=40),
        PDPGD(norm="linf", steps=100),
    ),
]


def attack_of(case):
    """The attack of a case that may have marks."""
    return getattr(case, "values", (case,))[0]


def few(*cases, gate):
    """The cases, of which only attacks of some classes are for the gate."""
    attacks = [attack_of(each) for each in cases]
    return [
        each if type(each) in gate and case is each else _nightly(each)[0]
        for each, case in zip(attacks, cases, strict=True)
    ]


def named(attack):
    return f"{attack} {attack.norm}"


@pytest.fixture
def half(digits):
    """Another half of the pixels of each of ten images, and of each of two."""
    generator = np.random.default_rng(0)
    images, labels = digits.x_test[:10], digits.y_test[:10]
    return images, labels, generator.integers(0, 2, (10, 8, 8)).astype(bool)


def generate(attack, net, images, labels, **options):
    return attack.generate(
        net, images, labels, seed=0, batch_size=6, verbose=0, **options
    )


@pytest.mark.parametrize("attack", [*BALLS, *MINIMAL], ids=named)
def test_other_pixels_are_the_same_to_the_bit(attack, trained_net, half):
    images, labels, mask = half
    found = generate(attack, trained_net, images, labels, mask=mask)
    np.testing.assert_array_equal(found[~mask], images[~mask])
    changed = np.any(found != images, axis=(1, 2, 3))
    assert changed.any()
    if attack.epsilon is not None:
        norms = norm_per_image(tf.constant(found - images), attack.norm)
        assert np.all(norms <= attack.epsilon + 1e-4)
    else:
        wrong = trained_net.predict(found, verbose=0).argmax(-1) != labels
        assert np.all(wrong[changed])


@pytest.mark.parametrize(
    "attack", few(*BALLS, *MINIMAL, gate=(APGD, FAB, FMN)), ids=named
)
def test_a_mask_of_ones_is_none(attack, trained_net, half):
    images, labels, mask = half
    found, whole = (
        generate(attack, trained_net, images, labels, mask=each)
        for each in (np.ones_like(mask), None)
    )
    np.testing.assert_array_equal(found, whole)


def test_the_same_in_a_graph_of_ones_own(trained_net, half):
    images, labels, mask = half
    for attack in (PGD(2.0, norm="l2", steps=4), FMN(norm="linf", steps=8)):

        def craft(images, labels, mask, attack=attack):
            return attack(trained_net, images, labels, mask=mask, seed=0)

        arguments = tf.constant(images), tf.constant(labels), tf.constant(mask)
        found = tf.function(craft, autograph=False)(*arguments).numpy()
        np.testing.assert_array_equal(found[~mask], images[~mask])
        assert np.any(found != images)
        expected = craft(*arguments).numpy()
        wrong = [trained_net(each).numpy().argmax(-1) for each in (found, expected)]
        np.testing.assert_array_equal(*wrong)


def test_in_other_ranges(trained_net, half):
    images, labels, mask = half
    pixels = np.round(255 * images).astype("uint8")

    def wide(images):
        return trained_net(images / 255)

    for attack in (
        PGD(80, value_range=(0, 255), steps=4),
        FMN(norm="l0", value_range=(0, 255), steps=30),
    ):
        found = generate(attack, wide, pixels, labels, mask=mask)
        np.testing.assert_array_equal(found[~mask], pixels[~mask])
        assert np.any(found != pixels)


def test_early_stopping_keeps_each_images_mask(trained_net, half):
    images, labels, mask = half
    attack = PGD(0.3, steps=20)
    found = generate(attack, trained_net, images, labels, mask=mask, stop_early=True)
    np.testing.assert_array_equal(found[~mask], images[~mask])
    broken = trained_net.predict(found, verbose=0).argmax(-1) != labels
    whole = generate(attack, trained_net, images, labels, mask=mask)
    expected = trained_net.predict(whole, verbose=0).argmax(-1) != labels
    np.testing.assert_array_equal(broken, expected)
    assert broken.any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steps_have_their_full_size_within_the_mask(norm, trained_net, digits):
    images = np.clip(digits.x_test[:6], 0.2, 0.8)
    mask = np.zeros((8, 8), bool)
    mask[2, 3:5] = mask[5, 5] = True
    attack = FGSM(0.1, norm=norm)
    found = generate(attack, trained_net, images, digits.y_test[:6], mask=mask)
    changes = tf.constant(found - images)
    np.testing.assert_allclose(norm_per_image(changes, norm), 0.1, rtol=1e-4)


@pytest.mark.parametrize(
    "attack",
    few(
        *(each for each in MINIMAL if not isinstance(attack_of(each), JSMA)),
        gate=(DDN, FMN),
    ),
    ids=named,
)
def test_comes_to_the_exact_distance_within_the_mask(attack):
    net, images, labels, planes = linear_problem()
    # Every other pixel, as on a chessboard.
    mask = np.indices((4, 4)).sum(0) % 2 == 1
    inside = [
        [(weights * mask.ravel(), gap) for weights, gap in each] for each in planes
    ]
    exact = exact_distances(images, inside, attack.norm)
    found = attack.search(net, images, labels, mask=mask, seed=0, verbose=0)
    reached = np.isfinite(exact)
    np.testing.assert_array_equal(found.success, reached)
    # Farther than without a mask, and as near as the attack comes without.
    ratios = found.norms[reached] / exact[reached]
    assert np.all(ratios > 1 - 1e-5)
    whole = exact_distances(images, planes, attack.norm)
    assert np.any(exact > 1.01 * whole)
    free = attack.search(net, images, labels, seed=0, verbose=0).norms / whole
    assert np.median(ratios) < 1.1 * max(np.median(free), 1.0)


def test_a_random_model_is_attacked_within_the_mask(trained_net, half):
    images, labels, mask = half
    noisy = keras.Sequential([keras.Input((8, 8, 1)), RandomNoise(0.02), trained_net])
    for attack in (
        PGD(0.3, steps=5, eot_samples=4, early_eot_samples=2),
        DDN(steps=10, eot_samples=2),
    ):
        found = generate(attack, noisy, images, labels, mask=mask)
        np.testing.assert_array_equal(found[~mask], images[~mask])
        assert np.any(found != images)


def test_a_transfer_changes_the_same_pixels(trained_net, half):
    images, labels, mask = half
    attack = PGD(0.3, steps=5)
    expected = attack.generate(
        trained_net, images, labels, mask=mask, seed=0, verbose=0
    )
    transfer = Transfer(trained_net, attack)
    found = transfer.generate(small_net(), images, labels, mask=mask, seed=0, verbose=0)
    np.testing.assert_array_equal(found[~mask], images[~mask])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_pixels_leave_images_as_they_are(trained_net, half):
    images, labels, _ = half
    for attack in (PGD(0.3, steps=2), FMN(steps=5), JSMA(gamma=1.0)):
        found = generate(attack, trained_net, images, labels, mask=np.zeros((8, 8)))
        np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(
    "attack",
    [
        HopSkipJump(steps=1),
        BoundaryAttack(steps=1),
        LatentSpaceAttack(0.3),
        Transfer(len, HopSkipJump(steps=1)),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_attacks_that_move_whole_images_refuse_it(attack, trained_net, half):
    images, labels, mask = half
    sentence = "expects `mask` to be None, because this attack moves whole images"
    with pytest.raises(ValueError, match=sentence):
        generate(attack, trained_net, images, labels, mask=mask)


def test_another_shape_is_refused(trained_net, half):
    images, labels, mask = half
    with pytest.raises(ValueError, match="`PGD` expects `mask`"):
        generate(PGD(0.1), trained_net, images, labels, mask=mask[:3])
    with pytest.raises(ValueError, match="`PGD` expects `mask`"):
        PGD(0.1)(trained_net, images, labels, mask=mask[:, :4])


def test_every_minimal_attack_is_here():
    kinds = {type(attack_of(each)) for each in (*BALLS, *MINIMAL)}
    missing = set(MinimalAttack.__subclasses__()) - kinds
    missing = {each for each in missing if each.__module__.startswith("keras_advdef")}
    assert {each.__name__ for each in missing} == {
        "BoundaryAttack",
        "HopSkipJump",
        "Walk",
    }
