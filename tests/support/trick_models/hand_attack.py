"""The attack that the maker of a trick would write: it knows the net inside."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_advdef.attacks import APGD, PGD, Square
from tests.support.trick_models.trick import on_grid

_BATCH = 64
_DRAWS = 10
# Points on the way from an image to its adversarial image: alarms go off at the end.
_WAY = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)


@dataclasses.dataclass(frozen=True)
class Truth:
    """Shares of right answers, clean and at the worst image that was found."""

    clean: float
    attacked: float


def classes_of(model, images) -> np.ndarray:
    """The predicted classes; NaN is none."""
    found = []
    for start in range(0, len(images), _BATCH):
        rows = tf.convert_to_tensor(images[start : start + _BATCH])
        found.append(np.asarray(model(rows), "float32"))
    scores = np.concatenate(found)
    return np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), -1)


def hand_attack(trick, ground, images, labels, *, seed=0, steps=100) -> Truth:
    """Returns the accuracy that attacks through the nets inside leave.

    Args:
        trick: The `Trick`.
        ground: What it is made from, with the radius of the linf ball.
        images: Clean images on the 8-bit grid.
        labels: Their classes.
        seed: Seed of the attacks.
        steps: Gradient steps of each.
    """
    built = trick.built(ground)
    search = _Search(trick, built.model, images, labels)
    settings = {"seed": seed, "batch_size": _BATCH, "verbose": 0}
    attacks = _attacks(ground.epsilon, steps)
    # The model itself comes last, if there is something left.
    itself = [built.model] * _has_gradient(built.model, images[:1])
    for net in (*built.inside, *itself):
        for attack in attacks:
            if search.is_done:
                break

            def found(net=net, attack=attack):
                return attack.generate(net, images, labels, **settings)

            search.take(_kept(ground, net, attack, found))
        if trick.targeted and not search.is_done:
            attack = PGD(ground.epsilon, steps=steps, targeted=True, loss="margin")
            for shift in range(1, ground.classes):
                goal = (labels + shift) % ground.classes
                search.take(
                    attack.generate(net, images, target_labels=goal, **settings)
                )
    if trick.square and not search.is_done:
        attack = Square(ground.epsilon, queries=20 * steps, restarts=2)
        search.take(attack.generate(built.model, images, labels, **settings))
    return search.truth()


def _has_gradient(model, images):
    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        scores = model(pixels)
    return tape.gradient(scores, pixels) is not None


def _attacks(epsilon, steps):
    return (
        PGD(epsilon, steps=steps, restarts=2),
        PGD(epsilon, steps=steps, loss="margin"),
        APGD(epsilon, steps=steps, loss="dlr"),
    )


def _kept(ground, net, attack, found):
    """The images that an attack finds; once for each net that tricks share."""
    shared = [each for each in ground.shared if each is net]
    if not shared:
        return found()
    key = (ground.shared.index(net), repr(attack))
    if key not in ground.kept:
        ground.kept[key] = found()
    return ground.kept[key]


class _Search:
    """Keeps the image that most often fools the model, of all that were tried."""

    def __init__(self, trick, model, images, labels):
        self._trick, self._model = trick, model
        self._clean, self._labels = images, labels
        self._draws = _DRAWS if trick.is_random else 1
        self._best = images
        self._shares = self._fooled(images)

    def _fooled(self, images):
        """The share of draws in which each image is given a wrong class."""
        total = np.zeros(len(images))
        for _ in range(self._draws):
            predicted = classes_of(self._model, images)
            wrong = predicted != self._labels
            if self._trick.detects:
                wrong &= predicted != self._alarm()
            total += wrong
        return total / self._draws

    def _alarm(self):
        return self._model.output_shape[-1] - 1

    @property
    def is_done(self):
        """Whether every image is broken."""
        return bool((self._shares == 1.0).all())

    def take(self, attacked):
        """Judges attacked images, and points on the way to them."""
        ways = _WAY if self._trick.detects else (1.0,)
        for share in ways:
            images = self._clean + np.float32(share) * (attacked - self._clean)
            images = on_grid(images) if self._trick.on_grid else images
            shares = self._fooled(images)
            is_better = shares > self._shares
            self._shares = np.where(is_better, shares, self._shares)
            rows = is_better[:, None, None, None]
            self._best = np.where(rows, images, self._best)

    def truth(self):
        """Judges the best images once more, on fresh draws."""
        clean = 1.0 - np.mean(
            [
                (classes_of(self._model, self._clean) != self._labels).mean()
                for _ in range(self._draws)
            ]
        )
        attacked = 1.0 - self._fooled(self._best).mean()
        return Truth(clean=float(clean), attacked=float(min(clean, attacked)))
