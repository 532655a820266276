"""Masks that keep every class and return gradients that are not the function's."""

import tensorflow as tf

from tests.support.trick_models.operations import (
    box,
    directions,
    flat,
    hard,
    pixel_waves,
    shows,
    with_gradient,
)
from tests.support.trick_models.trick import Trick, fronted, model_of

_REVIEW = "a gradient that is finite, smooth and false"


def _of(other, scores=lambda logits: logits):
    """The plain net's scores with the gradient of another net of the ground."""

    def build(ground):
        net, shown = ground.net, getattr(ground, other)
        return model_of(ground, lambda x: shows(scores(net(x)), shown(x)), net, shown)

    return build


def _own_soft(ground):
    net = ground.net

    def scores(images):
        logits = net(images)
        return shows(hard(logits), logits)

    return model_of(ground, scores, net)


def _backwards(function):
    """The plain net behind an identity with a backward pass of its own."""
    return lambda ground: fronted(ground, with_gradient(function), name="identity")


def _random_direction(ground):
    net, slopes = ground.net, directions(ground.shape, ground.classes)
    return model_of(ground, lambda x: shows(net(x), flat(x) @ slopes), net)


def _hashed(upstream, images):
    return tf.norm(upstream) * pixel_waves(images, speed=1e3)


def _drowned(upstream, images):
    size = tf.reduce_max(tf.abs(upstream), [1, 2, 3], keepdims=True)
    return upstream + 5.0 * size * pixel_waves(images, speed=1e3)


def _one_everywhere(upstream, images):
    mean = tf.reduce_mean(upstream, [1, 2, 3], keepdims=True)
    return mean + tf.zeros_like(images)


def _stale(ground):
    """The gradient that the net has at the mean image."""
    net = ground.net
    mean = tf.constant(ground.images.mean(axis=0, keepdims=True))
    with tf.GradientTape() as tape:
        tape.watch(mean)
        logits = net(mean)
    slopes = tf.transpose(flat(tape.jacobian(logits, mean)[0, :, 0]))
    return model_of(ground, lambda x: shows(net(x), flat(x) @ slopes), net)


def _where(condition):
    """The plain net with a false gradient where a condition on the images holds."""

    def build(ground):
        net, shown = ground.net, ground.untrained
        is_masked = condition(ground)

        def scores(images):
            logits = net(images)
            chosen = tf.where(is_masked(images, logits)[:, None], shown(images), logits)
            return shows(logits, chosen)

        return model_of(ground, scores, net, shown)

    return build


def _brightness(images):
    return tf.reduce_mean(tf.convert_to_tensor(images), [1, 2, 3])


def _brightest_tenth(ground):
    bright = ground.quantile(_brightness, 0.9)
    return lambda images, logits: _brightness(images) > bright


def _off_the_grid(ground):
    del ground

    def is_off(images, logits):
        del logits
        steps = 255.0 * images
        return tf.reduce_any(tf.abs(steps - tf.round(steps)) > 1e-2, [1, 2, 3])

    return is_off


def _one_class(ground):
    del ground
    return lambda images, logits: tf.argmax(logits, 1) == 1


def _decoy(ground):
    """A steep trapdoor in the backward pass alone."""
    net, slopes = ground.net, directions(ground.shape, ground.classes)

    def scores(images):
        logits = net(images)
        return shows(logits, logits + 1e3 * tf.sin(10.0 * (flat(images) @ slopes)))

    return model_of(ground, scores, net)


def _mirrored(upstream, images):
    del images
    return tf.reverse(upstream, [1, 2])


TRICKS = [
    Trick(name=name, stands_for=stands_for, build=build)
    for name, stands_for, build in (
        ("gradient of an untrained net", _REVIEW, _of("untrained")),
        ("gradient of a net for other classes", _REVIEW, _of("misled")),
        (
            "hard scores, gradient of an untrained net",
            _REVIEW,
            _of("untrained", hard),
        ),
        (
            "hard scores, gradient of a net for other classes",
            _REVIEW,
            _of("misled", hard),
        ),
        (
            "hard scores, own gradient",
            "straight-through class scores (Bengio 2013)",
            _own_soft,
        ),
        (
            "sign-flipped gradient",
            "gradient reversal left in the model (Ganin 2016)",
            _backwards(lambda upstream, images: -upstream),
        ),
        ("constant random gradient", _REVIEW, _random_direction),
        (
            "gradient hashed from the image",
            "shattered gradients (Athalye 2018)",
            _backwards(_hashed),
        ),
        (
            "gradient drowned in a hash",
            "a steep hash in the backward pass alone",
            _backwards(_drowned),
        ),
        (
            "gradient of the mean image",
            "a stale gradient, cached for speed",
            _stale,
        ),
        (
            "gradient turned upside down",
            "obfuscated BPDA: identity past a permutation of pixels (Athalye 2018)",
            _backwards(_mirrored),
        ),
        (
            "gradient averaged over all pixels",
            "obfuscated BPDA: a blur in the backward pass alone",
            _backwards(_one_everywhere),
        ),
        (
            "gradient of the blurred upstream",
            "BPDA by a poor substitute (Athalye 2018)",
            _backwards(lambda upstream, images: box(upstream, 5)),
        ),
        (
            "gradient times 1e-12",
            "vanishing gradients (Athalye 2018)",
            _backwards(lambda upstream, images: 1e-12 * upstream),
        ),
        ("mask on a tenth of the images", _REVIEW, _where(_brightest_tenth)),
        ("mask on one class alone", _REVIEW, _where(_one_class)),
        (
            "true gradient on the 8-bit grid alone",
            "a mask that only off-grid attack points meet",
            _where(_off_the_grid),
        ),
        (
            "decoy in the backward pass",
            "trapdoors and honeypots (Shan 2020; Carlini 2020)",
            _decoy,
        ),
    )
]
