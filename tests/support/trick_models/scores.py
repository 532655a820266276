"""Masks on the scores: scales, roundings, hashes, votes, labels."""

import numpy as np
import tensorflow as tf

from tests.support.trick_models.operations import (
    flat,
    gaps,
    hard,
    margin,
    rounded,
    waves,
)
from tests.support.trick_models.trick import Built, Trick, backed, model_of

_CARLINI = "defensive distillation (Papernot 2016; Carlini & Wagner 2017)"
_VOTES = "votes instead of scores: rows sum to a constant and are no softmax"


def _scaled(factor):
    return lambda ground: backed(ground, lambda logits: factor * logits)


def _steep(ground):
    return backed(
        ground, lambda logits: tf.exp(tf.nn.log_softmax(1000.0 * gaps(logits)))
    )


def _warm(ground):
    return backed(ground, lambda logits: tf.nn.softmax(logits / 1000.0))


def _tiny_and_noisy(ground):
    def scores(logits):
        noise = tf.random.normal(tf.shape(logits))
        return 1e-6 * (logits + 2.0 * noise)

    return backed(ground, scores)


def _clipped(ground):
    return backed(ground, lambda logits: tf.maximum(gaps(logits), -1e-3))


def _hashed(speed):
    """Adds a sine of the image that is too small to change any class."""

    def build(ground):
        net = ground.net

        def scores(images):
            logits = net(images)
            hashed = waves(images, logits.shape[1], speed=speed)
            return logits + 0.45 * tf.stop_gradient(margin(logits)) * hashed

        return model_of(ground, scores, net)

    return build


def _fast_temperature(ground):
    """Divides the gaps of each class by a temperature that varies over the image."""
    net = ground.net

    def scores(images):
        logits = gaps(net(images))
        return logits * tf.exp(3.0 * waves(images, logits.shape[1], speed=300.0))

    return model_of(ground, scores, net)


def _nan_off_the_grid(ground):
    net = ground.net

    def scores(images):
        steps = 255.0 * images
        is_off = tf.reduce_any(tf.abs(steps - tf.round(steps)) > 1e-2, [1, 2, 3])
        return tf.where(is_off[:, None], np.nan, net(images))

    return model_of(ground, scores, net)


def _joint(nets):
    """The mean log-probabilities of nets, as an attacker of their votes needs."""
    return lambda images: sum(tf.nn.log_softmax(net(images)) for net in nets)


def _hard_votes(total):
    def build(ground):
        nets = ground.shared
        share = total / len(nets)

        def scores(images):
            return share * sum(hard(net(images), 1.0) for net in nets)

        return Built(
            model=model_of(ground, scores, *nets),
            inside=(_joint(nets), *nets),
        )

    return build


def _neighbours(ground):
    """Shares of the classes among the nine nearest training images."""
    images = ground.images[:2000].reshape(len(ground.images[:2000]), -1)
    known = tf.one_hot(ground.labels[:2000], ground.classes)
    sizes = (images**2).sum(axis=1)

    def distances(given):
        rows = flat(given)
        across = rows @ images.T
        return tf.reduce_sum(rows**2, 1, keepdims=True) - 2.0 * across + sizes

    def votes(given):
        nearest = tf.math.top_k(-distances(given), 9).indices
        return tf.reduce_mean(tf.gather(known, nearest), 1)

    def soft(heat):
        def logits(given):
            weights = tf.nn.log_softmax(-distances(given) * heat)
            weights = weights[:, :, None] + tf.math.log(known + 1e-20)[None]
            return tf.reduce_logsumexp(weights, 1)

        return logits

    inside = tuple(soft(heat) for heat in (1.0, 3.0, 10.0))
    return Built(model=model_of(ground, votes), inside=inside)


def _labels_alone(ground):
    return backed(ground, lambda logits: hard(logits, 1.0))


def _one_class_hard(ground):
    def scores(logits):
        is_one = (tf.argmax(logits, 1) == 2)[:, None]
        return tf.where(is_one, tf.stop_gradient(hard(logits)), logits)

    return backed(ground, scores)


def _sigmoids(ground):
    """Six sigmoids on each score, whose slopes multiply to nearly nothing."""

    def scores(logits):
        values = logits / 4.0
        for _ in range(6):
            values = tf.sigmoid(values)
        return 10.0 * values

    return backed(ground, scores)


def _saturating(ground):
    """Log-odds cut as Keras cuts probabilities, so that certain images are flat."""

    def scores(logits):
        shares = tf.nn.softmax(4.0 * logits)
        return tf.math.log(tf.clip_by_value(shares, 1e-4, 1.0 - 1e-4))

    return backed(ground, scores)


def _float16(ground):
    """Scores squashed into the few numbers that float16 has near 1."""

    def scores(logits):
        squashed = tf.cast(1.0 + 1e-2 * tf.tanh(logits / 10.0), tf.float16)
        return tf.cast(squashed, tf.float32)

    return backed(ground, scores)


TRICKS = [
    Trick(name="logits times 1000", stands_for=_CARLINI, build=_scaled(1e3)),
    Trick(
        name="logits divided by 1000",
        stands_for="a softmax of temperature 1000 (Papernot 2016)",
        build=_scaled(1e-3),
    ),
    Trick(
        name="probabilities of logits times 1000",
        stands_for=_CARLINI,
        build=_steep,
    ),
    Trick(
        name="probabilities at temperature 1000",
        stands_for="probabilities given as logits",
        build=_warm,
    ),
    Trick(
        name="noise on logits times 1e-6",
        stands_for="noise hidden by the scale of the logits (review)",
        build=_tiny_and_noisy,
        keeps=False,
        is_random=True,
    ),
    Trick(
        name="logits rounded to halves",
        stands_for="scores rounded against queries (Tramer 2016)",
        build=lambda ground: backed(ground, lambda x: rounded(x, 2.0)),
        keeps=False,
    ),
    Trick(
        name="gaps clipped at 1e-3",
        stands_for="clipped logits: flat unless a class is about to change",
        build=_clipped,
    ),
    Trick(
        name="hash of the image on the logits",
        stands_for="deterministic noise (Athalye 2018: shattered gradients)",
        build=_hashed(1e4),
    ),
    Trick(
        name="fast sine on the logits",
        stands_for="shattered gradients (Athalye 2018)",
        build=_hashed(100.0),
    ),
    Trick(
        name="per-class temperature that varies over the image",
        stands_for="input-dependent temperatures (review)",
        build=_fast_temperature,
    ),
    Trick(
        name="NaN off the 8-bit grid",
        stands_for="refuses what no camera gives (review)",
        build=_nan_off_the_grid,
        on_grid=True,
    ),
    Trick(
        name="hard votes of three nets",
        stands_for=_VOTES + " (EMPIR, Sen 2020; Tramer 2020)",
        build=_hard_votes(1.0),
        keeps=False,
    ),
    Trick(
        name="hard votes that sum to three",
        stands_for=_VOTES,
        build=_hard_votes(3.0),
        keeps=False,
    ),
    Trick(
        name="nine nearest neighbours",
        stands_for=_VOTES + " (Papernot 2018; Sitawarin 2019)",
        build=_neighbours,
        keeps=False,
        targeted=True,
        square=True,
    ),
    Trick(
        name="labels alone",
        stands_for="gradient masking by hard labels (Papernot 2017)",
        build=_labels_alone,
    ),
    Trick(
        name="one class behind hard scores",
        stands_for="a mask that shares of all images do not show (review)",
        build=_one_class_hard,
    ),
    Trick(
        name="six sigmoids on each score",
        stands_for="vanishing gradients of deep squashing (Athalye 2018)",
        build=_sigmoids,
    ),
    Trick(
        name="probabilities clipped at 1e-4",
        stands_for="saturated log-odds, as losses clip them",
        build=_saturating,
    ),
    Trick(
        name="scores in few float16 steps",
        stands_for="low precision (Gupta & Ajanthan 2022)",
        build=_float16,
        keeps=False,
    ),
]
