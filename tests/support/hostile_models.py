"""Models that return NaN, infinity or zero gradients under attack, and their images.

Each row of a batch belongs to another kind of hostile model, so that one trace of an
attack meets them all. On the clean images, whose pixels are eighths, all are finite.
"""

import numpy as np
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD, LatentSpaceAttack, Transfer
from tests.support.cases import ATTACKS
from tests.support.check_attack import inside

# The cases of the attacks that take any model: these here hold no projection.
_ANY_MODEL = [case for case in ATTACKS if case[0] is not LatentSpaceAttack]
CLASSES = 4
SHAPE = (4, 4, 1)
_WEIGHTS = np.random.default_rng(3).normal(size=(16, CLASSES)).astype("float32")
_FIRST = np.eye(CLASSES, dtype="float32")[:1]


def plain(images):
    """Logits of a linear model."""
    return tf.reshape(images, [-1, 16]) @ _WEIGHTS


def _is_moved(images):
    return tf.reduce_any(tf.abs(8 * images - tf.round(8 * images)) > 1e-4, [1, 2, 3])


def _is_bright(images):
    return tf.reduce_max(images, [1, 2, 3]) > 0.9


def _where(is_there, value, images, classes=True):
    return tf.where(is_there(images)[:, None] & classes, value, plain(images))


def _sums(images):
    return tf.reduce_sum(images, [1, 2, 3])[:, None]


KINDS = {
    "NaN around the image": lambda x: _where(_is_moved, np.nan, x),
    "NaN far from the image": lambda x: _where(_is_bright, np.nan, x),
    "one NaN far from the image": lambda x: _where(_is_bright, np.nan, x, _FIRST > 0),
    "infinite class far away": lambda x: _where(_is_bright, np.inf, x, _FIRST > 0),
    "minus infinity around": lambda x: _where(_is_moved, -np.inf, x),
    "two infinities around": lambda x: _where(_is_moved, np.inf, x, _FIRST < 1),
    "NaN gradient": lambda x: plain(x) + _sums(tf.sqrt(0.0 * x)),
    "infinite gradient": lambda x: plain(x) + _sums(tf.sqrt(tf.nn.relu(x - 0.5))),
    "logits that overflow": lambda x: 3e38 * tf.tanh(plain(x)),
    "logits that nearly overflow": lambda x: 1e30 * plain(x),
    "constant logits": lambda x: 0.0 * plain(x) + _FIRST,
    "lowest logits around": lambda x: _where(_is_moved, -3.4e38, x),
    "tiny logits": lambda x: 1e-38 * plain(x),
    "nothing gained": lambda x: _FIRST - _sums(0.01 * x**2) * _FIRST,
}


def hostile(images):
    """Logits whose rows come from the `KINDS` in turn."""
    kind = tf.range(tf.shape(images)[0]) % len(KINDS)
    logits = plain(images)
    for index, model in enumerate(KINDS.values()):
        own = kind == index
        # Hides the other rows, whose gradients would become NaN as well.
        seen = tf.where(own[:, None, None, None], images, 0.5)
        logits = tf.where(own[:, None], model(seen), logits)
    return logits


def hostile_images(seed=0):
    """Images of eighths, one for each kind; also black, -0.0, and smaller than all."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 8, (len(KINDS), *SHAPE)) / 8
    images = images.astype("float32")
    images[0] = 0.0
    images[1] = -0.0
    images[2, 1] = 1e-40
    return images


def hostile_labels(count=14):
    return np.arange(count) % CLASSES


def attack_cases():
    """Every public attack with the arguments of its contract."""
    transfers = (FGSM(0.1), PGD(0.5, norm="l2", steps=3))
    aimed_at = [(Transfer, {"surrogate": hostile, "attack": a}) for a in transfers]
    return [*_ANY_MODEL, *aimed_at]


def targeted_cases():
    """Those that support it, as targeted attacks."""
    return [
        (cls, {**arguments, "targeted": True})
        for cls, arguments in _ANY_MODEL
        if "targeted" in cls.arguments()
        and arguments.get("loss") != "kl"
        and "target_classes" not in arguments
    ]


def goal_of(attack, labels):
    """The labels or target labels that an attack needs."""
    if attack.targeted:
        return {"target_labels": (labels + 1) % CLASSES}
    return {"labels": labels}


def check_images(found, clean, attack) -> None:
    """Asserts that images are finite, in `[0, 1]` and in the ball, up to rounding."""
    found = np.asarray(found)
    assert found.dtype == np.float32
    assert found.shape == clean.shape
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    reach = float(attack.reach(attack.radius(None)))
    assert inside(found, clean, reach, attack.norm)
