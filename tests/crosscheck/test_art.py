"""Our attacks against those of ART, the Adversarial Robustness Toolbox."""

import keras
import numpy as np
import pytest

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.square import Square
from tests.crosscheck import (
    assert_as_near,
    assert_as_strong,
    crafted,
    found_norms,
    inner,
    norms,
    standing,
)

evasion = pytest.importorskip(
    "art.attacks.evasion", reason="needs the extra `crosscheck`"
)
classification = pytest.importorskip(
    "art.estimators.classification", reason="needs the extra `crosscheck`"
)

ORDERS = {"linf": np.inf, "l2": 2}
# The defaults print progress bars and split the images into small batches.
QUIET = {"batch_size": 100, "verbose": False}
STEPS = 10
SEEDS = range(3)
FEW = 20
# Fewer queries would compare schedules: ART's is stretched over them.
QUERIES = 1000


def classifier(net):
    """The net as ART sees it; a mean would shrink the gradients below its 1e-7."""
    return classification.TensorFlowV2Classifier(
        net,
        nb_classes=3,
        input_shape=(8, 8, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="sum"
        ),
        clip_values=(0, 1),
    )


def test_fgsm_gives_the_same_images(trained_net, digits):
    images, labels = standing(trained_net, digits)
    theirs = evasion.FastGradientMethod(classifier(trained_net), eps=0.1)
    expected = theirs.generate(images, labels)
    ours = crafted(FGSM(0.1), trained_net, images, labels)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["Numpy", "TensorFlowV2"])
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.6)])
def test_pgd_gives_the_same_images(trained_net, digits, norm, epsilon, kind):
    images, labels = standing(trained_net, digits)
    images = inner(images)
    theirs = getattr(evasion, f"ProjectedGradientDescent{kind}")(
        classifier(trained_net),
        norm=ORDERS[norm],
        eps=epsilon,
        eps_step=epsilon / 4,
        max_iter=STEPS,
        **QUIET,
    )
    expected = theirs.generate(images, labels)
    ours = PGD(
        epsilon,
        norm=norm,
        steps=STEPS,
        step_size=epsilon / 4,
        random_start=False,
        return_best=False,
    )
    result = crafted(ours, trained_net, images, labels)
    np.testing.assert_allclose(result, expected, atol=1e-5)


# ART works out the other loss for one image after the other.
@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        pytest.param("difference_logits_ratio", marks=pytest.mark.nightly),
    ],
)
def test_apgd_is_as_strong(trained_net, digits, loss):
    images, labels = standing(trained_net, digits)
    theirs = evasion.AutoProjectedGradientDescent(
        classifier(trained_net),
        eps=0.08,
        eps_step=0.16,
        max_iter=20,
        nb_random_init=1,
        loss_type=loss,
        **QUIET,
    )
    one_hot = keras.utils.to_categorical(labels, 3)
    expected = []
    for seed in SEEDS:
        np.random.seed(seed)  # noqa: NPY002 - where ART's starts come from
        expected.append(theirs.generate(images, one_hot))
    name = "dlr" if loss == "difference_logits_ratio" else loss
    ours = APGD(0.08, steps=20, loss=name)
    found = [crafted(ours, trained_net, images, labels, seed) for seed in SEEDS]
    assert_as_strong(trained_net, labels, ours=found, theirs=expected)


@pytest.mark.nightly
def test_square_is_as_strong(trained_net, digits):
    images, labels = standing(trained_net, digits)
    theirs = evasion.SquareAttack(
        classifier(trained_net), eps=0.1, max_iter=QUERIES, **QUIET
    )
    expected = theirs.generate(images, labels)
    ours = crafted(Square(0.1, queries=QUERIES), trained_net, images, labels)
    assert_as_strong(trained_net, labels, ours=[ours], theirs=[expected])


def test_deep_fool_is_as_near(trained_net, digits):
    images, labels = standing(trained_net, digits)
    theirs = evasion.DeepFool(
        classifier(trained_net), max_iter=50, epsilon=0.02, nb_grads=3, **QUIET
    )
    expected = norms(theirs.generate(images, labels), images, 2)
    ours = found_norms(DeepFool(), trained_net, images, labels)
    assert_as_near(ours, expected)


def test_carlini_wagner_is_as_near(trained_net, digits):
    images, labels = standing(trained_net, digits, FEW)
    # Each step of ART looks at up to ten points along a line, one of ours at one.
    theirs = evasion.CarliniL2Method(
        classifier(trained_net),
        max_iter=10,
        binary_search_steps=3,
        learning_rate=0.05,
        initial_const=1.0,
        **QUIET,
    )
    expected = norms(theirs.generate(images, labels), images, 2)
    ours = CarliniWagner(
        steps=100, binary_search_steps=3, learning_rate=0.05, initial_constant=1.0
    )
    assert_as_near(found_norms(ours, trained_net, images, labels), expected)
