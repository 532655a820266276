import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    CarliniWagner,
    DeepFool,
    HopSkipJump,
    Square,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.masked_classes import MASKED, finite_masks
from keras_advdef.core.model_view import ModelView

_INF = np.inf


def test_a_row_keeps_what_decides_nothing(in_every_mode):
    logits = [
        [1.0, -_INF, 2.0],
        [-_INF, -_INF, -3.0],
        [-_INF, -_INF, -_INF],
        [_INF, -_INF, 0.0],
        [-1e30, 0.0, 1e30],
    ]
    low = np.float32(-1e38)
    expected = [[1.0, low, 2.0], [low, low, -3.0], *logits[2:]]
    for found in in_every_mode(finite_masks, tf.constant(logits)):
        np.testing.assert_array_equal(found, np.float32(expected))
    assert low < MASKED


def test_nan_stays():
    assert np.isnan(finite_masks(tf.constant([[np.nan, -_INF]]))).any()


_WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
_MASK = np.array([0.0, -_INF, 0.0, 0.0, -_INF], "float32")


def _bare(images):
    return tf.reshape(images, (-1, 16)) @ _WEIGHTS


def _masked(images):
    """Three classes, and two between that are excluded."""
    first, *others = tf.unstack(_bare(images), axis=1)
    zero = tf.zeros_like(first)
    return tf.stack([first, zero, *others, zero], axis=1) + _MASK


_PLACES = np.array([0, 2, 3])
_ATTACKS = {
    "FGSM": FGSM(0.06),
    "margin": PGD(0.06, steps=5, loss="margin"),
    "APGD": APGD(0.06, steps=5),
    "DLR": APGD(0.06, steps=5, loss="dlr"),
    "targeted DLR": APGD(0.06, steps=5, loss="targeted_dlr"),
    "DeepFool": DeepFool(0.06, norm="linf"),
    "FAB": FAB(0.06, steps=5, restarts=1),
    "CarliniWagner": CarliniWagner(0.25, steps=20),
    "Square": Square(0.1, queries=100),
    "HopSkipJump": HopSkipJump(0.25, steps=3),
}


@pytest.fixture
def wide():
    """Images with a class and how far, in linf, the next one is."""
    images = np.random.default_rng(1).uniform(0.2, 0.8, (24, 4, 4, 1)).astype("float32")
    return images, np.asarray(_bare(images)).argmax(axis=1)


# They look at logits as others do.
_NIGHTLY = {"targeted DLR", "DeepFool", "CarliniWagner", "HopSkipJump"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=[pytest.mark.nightly] * (each in _NIGHTLY))
        for each in _ATTACKS
    ],
)
@pytest.mark.filterwarnings("ignore:The targeted DLR needs")
def test_excluded_classes_change_no_success(name, wide):
    images, labels = wide
    attack = _ATTACKS[name]
    shares = []
    for model, classes in ((_bare, labels), (_masked, _PLACES[labels])):
        found = attack.generate(model, images, classes, seed=0, verbose=0)
        predicted = np.asarray(LogitsFunction(model)(found)).argmax(axis=1)
        shares.append((predicted != classes).mean())
    assert 0.1 < shares[0] < 0.9
    assert shares[1] == pytest.approx(shares[0], abs=0.1)


def test_a_view_changes_no_mask(wide):
    images, _ = wide
    for view in (_masked, ModelView(_masked, temperature=10.0)):
        logits = LogitsFunction(view)(images).numpy()
        assert np.isfinite(logits).all()
        assert (logits[:, [1, 4]] < MASKED).all()
