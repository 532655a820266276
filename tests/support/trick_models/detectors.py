"""An extra class for images that look attacked."""

import numpy as np
import tensorflow as tf

from tests.support.trick_models.operations import flat, margin, median, principal
from tests.support.trick_models.trick import Built, Trick, model_of

_SHARE = 0.97


def _alarmed(score, *, both_sides=False):
    """A model with an alarm where a score of the images is unlike the training's."""

    def build(ground):
        net, odd = ground.net, score(ground)
        high = ground.quantile(odd, _SHARE)
        low = ground.quantile(odd, 1.0 - _SHARE) if both_sides else -np.inf
        scale = 10.0 / max(abs(high), 1e-6)

        def with_alarm(images):
            logits, found = net(images), odd(images)
            excess = tf.maximum(found - high, low - found)
            alarm = tf.reduce_max(logits, 1) + scale * excess
            return tf.concat([logits, alarm[:, None]], 1)

        return Built(
            model=model_of(ground, with_alarm, net, extra=1), inside=(with_alarm, net)
        )

    return build


def _roughness(ground):
    del ground
    return lambda x: tf.reduce_mean(tf.abs(x - median(x)), [1, 2, 3])


def _squeezed(ground):
    net = ground.net

    def score(images):
        images = tf.convert_to_tensor(images)
        change = tf.nn.softmax(net(images)) - tf.nn.softmax(net(median(images)))
        return tf.reduce_sum(tf.abs(change), 1)

    return score


def _reconstructed(ground):
    mean, parts = principal(ground.images, 20)

    def score(images):
        rows = flat(tf.convert_to_tensor(images)) - mean
        left = rows - (rows @ parts.T) @ parts
        return tf.reduce_sum(left**2, 1)

    return score


def _dimension(ground):
    """Local intrinsic dimension of the logits among those of training images."""
    net = ground.net
    known = net(ground.images[300:800])

    def score(images):
        apart = net(images)[:, None] - known[None]
        distances = tf.sqrt(tf.reduce_sum(apart**2, -1) + 1e-6)
        nearest = -tf.math.top_k(-distances, 20).values
        ratios = tf.math.log(nearest / nearest[:, -1:])
        return -1.0 / (tf.reduce_mean(ratios, 1) - 1e-6)

    return score


def _window(ground):
    net = ground.net
    return lambda images: margin(net(images))[:, 0]


def _unstable(ground):
    """How much fixed noise lowers the predicted class."""
    net = ground.net
    noise = np.random.default_rng(0).normal(size=(8, 1, *ground.shape))
    noise = (0.1 * noise).astype("float32")

    def score(images):
        logits = tf.nn.log_softmax(net(images))
        chosen = tf.one_hot(tf.argmax(logits, 1), logits.shape[1])
        moved = sum(tf.nn.log_softmax(net(images + each)) for each in noise) / 8.0
        return tf.reduce_sum((logits - moved) * chosen, 1)

    return score


TRICKS = [
    Trick(
        name=name,
        stands_for=text,
        build=build,
        keeps=False,
        detects=True,
        targeted=True,
    )
    for name, text, build in (
        (
            "alarm at rough images",
            "an extra class for attacked images (Grosse 2017; Carlini & Wagner 2017)",
            _alarmed(_roughness),
        ),
        (
            "alarm if a median filter changes the scores",
            "feature squeezing detector (Xu 2018; He 2017)",
            _alarmed(_squeezed),
        ),
        (
            "alarm far from the training images",
            "MagNet (Meng & Chen 2017; Carlini & Wagner 2017)",
            _alarmed(_reconstructed),
        ),
        (
            "alarm at odd local dimension",
            "local intrinsic dimensionality (Ma 2018; Athalye 2018)",
            _alarmed(_dimension, both_sides=True),
        ),
        (
            "alarm at odd margins",
            "a weakness into a strength (Hu 2019; Tramer 2020)",
            _alarmed(_window, both_sides=True),
        ),
        (
            "alarm if noise changes the scores",
            "the odds are odd (Roth 2019; Tramer 2020)",
            _alarmed(_unstable, both_sides=True),
        ),
    )
]
