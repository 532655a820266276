"""The tricks hide what they claim to hide, and the page says what was recorded."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.trick_models import grounded, measure
from tests.golden.trick_models import MISSED, alarm, page, recorded, verdict
from tests.support.nets import digit_images, sparse_loss
from tests.support.trick_models import HONEST, TRICKS
from tests.support.trick_models.ground import Ground
from tests.support.trick_models.hand_attack import classes_of, hand_attack
from tests.support.trick_models.trick import on_grid

_COUNT = 12


@pytest.fixture(scope="module")
def ground():
    """Bars, and a plain net that knows them; all other nets are untrained."""
    digits = digit_images()
    ground = Ground(
        images=on_grid(digits.x_train),
        labels=digits.y_train,
        classes=3,
        epsilon=0.3,
        epochs=0,
    )
    ground.net.compile("adam", sparse_loss())
    ground.net.fit(ground.images, ground.labels, epochs=6, batch_size=16, verbose=0)
    return ground


def of(name):
    return next(kind for kind in [*TRICKS, *HONEST] if kind.name == name)


@pytest.mark.parametrize("kind", [*TRICKS, *HONEST], ids=str)
def test_model_gives_scores_and_hides_what_it_claims(kind, ground):
    built = kind.built(ground)
    images = tf.constant(ground.images[:_COUNT])
    with tf.GradientTape() as tape:
        tape.watch(images)
        scores = built.model(images)
    assert scores.shape == (_COUNT, ground.classes + kind.detects)
    assert np.isfinite(scores).all()
    slope = tape.gradient(scores, images)
    assert slope is None or slope.shape == images.shape
    assert all(inside(images).shape[0] == _COUNT for inside in built.inside)
    if kind.keeps:
        plain = classes_of(ground.net, ground.images[:_COUNT])
        np.testing.assert_array_equal(classes_of(built.model, images.numpy()), plain)


@pytest.fixture(scope="module")
def trained():
    """The real digits that the record is of, and its settings."""
    settings = recorded()["digits"]["settings"]
    ground, tested = grounded(None)
    return ground, tuple(part[: settings["count"]] for part in tested), settings


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*TRICKS, *HONEST], ids=str)
def test_report_is_no_worse_than_recorded(kind, trained):
    ground, attacked, settings = trained
    chosen = {name: settings[name] for name in ("budget", "seed")}
    measured = measure(kind, ground, attacked, **chosen)
    # What has no record yet must be as it should.
    before = recorded()["digits"]["rows"].get(kind.name)
    if kind in HONEST:
        assert alarm(measured) in ("none", before and alarm(before)), measured
    else:
        allowed = before is not None and verdict(before) == MISSED
        assert allowed or verdict(measured) != MISSED, measured


def test_there_are_enough_of_both_and_no_two_of_one_name():
    names = [kind.name for kind in [*TRICKS, *HONEST]]
    assert len(names) == len(set(names))
    assert len(TRICKS) >= 34
    assert len(HONEST) >= 12


def test_attack_by_hand_breaks_what_is_hidden(ground):
    images, labels = ground.images[:_COUNT], ground.labels[:_COUNT]
    trick = of("sawtooth on the pixels")
    truth = hand_attack(trick, ground, images, labels, steps=10)
    assert truth.clean > 0.9
    assert truth.attacked == 0.0


def test_attack_by_hand_leaves_images_that_no_attack_reaches(ground):
    tiny = dataclasses.replace(ground, epsilon=2e-3, kept={})
    vars(tiny)["net"] = ground.net
    images, labels = ground.images[:_COUNT], ground.labels[:_COUNT]
    truth = hand_attack(of("labels alone"), tiny, images, labels, steps=2)
    assert truth.attacked == truth.clean


def row(**changes):
    measured = {
        "clean": 0.9,
        "truth": 0.1,
        "attacked": 0.1,
        "robust": False,
        "suspected": False,
        "failed": [],
        "refused": None,
        "seconds": 1.0,
    }
    return {**measured, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attacked": 0.15}, "broken"),
        ({"attacked": 0.16}, MISSED),
        ({"attacked": 0.16, "suspected": True}, "named"),
        ({"suspected": True}, "named, broken"),
        ({"attacked": None, "refused": "Why."}, MISSED),
    ],
)
def test_verdict(changes, expected):
    assert verdict(row(**changes)) == expected


def test_refusing_or_suspecting_an_honest_net_is_an_alarm():
    assert alarm(row()) == "none"
    for changes in ({"suspected": True}, {"attacked": None, "refused": "Why."}):
        assert "ALARM" in alarm(row(**changes))


def test_page_counts_and_shows_what_was_recorded():
    settings = {
        "command": "run",
        "count": 60,
        "epsilon": 0.2,
        "budget": "quick",
        "seed": 0,
    }
    rows = {
        "labels alone": row(attacked=0.9, robust=True),
        "bit depth": row(suspected=True, failed=["input_gradients"]),
        "linear": row(),
    }
    text = page({"digits": {"settings": settings, "rows": rows}})
    assert "Of 2 tricks, 1 are missed" in text
    assert "| 90.0 | 10.0 | 90.0 | robust | none | **MISSED** |" in text
    assert "| accuracy under | input_gradients | named, broken |" in text
    assert "Of 1 honest nets, 0 are accused" in text


def test_recorded_names_are_those_of_the_models():
    names = {kind.name for kind in [*TRICKS, *HONEST]}
    for result in recorded().values():
        assert set(result["rows"]) <= names
