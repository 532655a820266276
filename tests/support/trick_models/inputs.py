"""Defences that change the image before the net, and those that search it anew."""

import keras
import numpy as np
import tensorflow as tf

from tests.support.trick_models.ground import plain_net
from tests.support.trick_models.operations import (
    box,
    flat,
    from_frequencies,
    median,
    patches,
    principal,
    rounded,
    shows,
    straight,
    to_frequencies,
)
from tests.support.trick_models.trick import Built, Trick, fronted, model_of

_STEPS = 10


def _honestly(function, *, slope=None):
    """A front, with the plain net behind an identity gradient to attack."""

    def build(ground):
        soft = straight(function) if slope is None else slope
        honest = fronted(ground, soft)
        return Built(model=fronted(ground, function), inside=(honest, ground.net))

    return build


def _sawtooth(images):
    """The identity on the 8-bit grid, falling everywhere else."""
    return 2.0 * rounded(images, 255.0) - images


def _coarse_sawtooth(images):
    """Close to the identity, but falling between its jumps."""
    return 2.0 * rounded(images, 64.0) - images


def _shattered(images):
    """The identity on the 8-bit grid, whose slope is a fast wave."""
    return images + 0.02 * tf.sin(2.0 * np.pi * 255.0 * images)


def _jpeg(images):
    """Rounds frequencies, the higher the coarser."""
    size = images.shape[1]
    line = np.arange(size, dtype="float32") / size
    steps = 0.05 + 0.4 * (line[:, None] + line)[None, :, :, None]
    frequencies = to_frequencies(images)
    return from_frequencies(steps * tf.round(frequencies / steps))


def _largest_frequencies(images):
    """Keeps the quarter of frequencies with the largest size."""
    frequencies = to_frequencies(images)
    sizes = tf.abs(flat(frequencies))
    count = sizes.shape[1] // 4
    least = tf.math.top_k(sizes, count).values[:, -1]
    kept = tf.abs(frequencies) >= least[:, None, None, None]
    return from_frequencies(frequencies * tf.cast(kept, images.dtype))


def _likely_pixels(images):
    """Moves each pixel to the likeliest of nearby levels, given its neighbours."""
    levels = images[..., None] + tf.constant([-0.06, -0.03, 0.0, 0.03, 0.06])
    near = tf.reduce_mean(patches(images), -1, keepdims=True)
    chosen = tf.argmin(tf.abs(levels - near), -1)
    return tf.gather(levels, chosen, axis=-1, batch_dims=4)


def _half_seen(images):
    """Lets gradients through the upper quarter only."""
    rows = tf.range(images.shape[1])[None, :, None, None]
    is_seen = rows < images.shape[1] // 4
    return tf.where(is_seen, images, tf.stop_gradient(images))


def _corner_seen(images):
    """Lets gradients through one pixel only."""
    place = tf.range(images.shape[1])[None, :, None, None]
    other = tf.range(images.shape[2])[None, None, :, None]
    return tf.where(place + other == 0, images, tf.stop_gradient(images))


def _thermometer(ground):
    """Sixteen levels per pixel, each on or off, for a net trained on them."""
    levels = tf.range(16, dtype=tf.float32) / 16.0

    def hot(images):
        return tf.cast(images > levels, tf.float32)

    def soft(function):
        return lambda images: shows(hot(images), function(16.0 * (images - levels)))

    front = keras.layers.Lambda(hot, output_shape=(*ground.shape[:2], 16))
    coded = keras.Sequential([keras.Input(ground.shape), front])
    net = plain_net((*ground.shape[:2], 16), ground.classes)
    model = ground.fit(lambda: keras.Sequential([*coded.layers, net]))
    ramp, slide = soft(lambda x: tf.clip_by_value(x, 0.0, 1.0)), soft(tf.sigmoid)
    return Built(
        model=model,
        inside=(
            lambda images: net(ramp(images)),
            lambda images: net(slide(images)),
            ground.net,
        ),
    )


def _generated(ground, *, is_hidden):
    """The nearest image of a linear generator, found by ten steps of descent."""
    mean, parts = principal(ground.images, 16)
    net = ground.net

    def nearest(images):
        rows = flat(images) - mean
        code = tf.zeros_like(rows @ parts.T)
        for _ in range(_STEPS):
            code += 0.5 * (rows - code @ parts) @ parts.T
        return tf.reshape(code @ parts + mean, tf.shape(images))

    def purified(images):
        found = nearest(images)
        return net(tf.stop_gradient(found) if is_hidden else found)

    return Built(
        model=model_of(ground, purified, net),
        inside=(lambda images: net(nearest(images)), net),
    )


def _ascent(ground, *, goal, size, signed):
    """The plain net on images that ten steps of its own gradient have changed."""
    net = ground.net

    def moved(images):
        change = tf.zeros_like(images)
        for _ in range(_STEPS):
            with tf.GradientTape() as tape:
                tape.watch(change)
                aim = tf.reduce_sum(goal(net(images + change)))
            slope = tape.gradient(aim, change)
            step = tf.sign(slope) if signed else 20.0 * slope
            change = tf.clip_by_value(change + size / _STEPS * step, -size, size)
        return images + change

    return Built(
        model=model_of(ground, lambda images: net(moved(images)), net),
        inside=(net, lambda images: net(straight(moved)(images))),
    )


def _confidence(logits):
    """The log-probability of the predicted class."""
    return tf.reduce_max(tf.nn.log_softmax(logits), 1)


def _hedge(logits):
    """The cross-entropy summed over all classes."""
    return -tf.reduce_sum(tf.nn.log_softmax(logits), 1)


def _denoised(images):
    """Ten steps towards the mean of the neighbours and back to the image."""
    found = images
    for _ in range(_STEPS):
        found += 0.2 * (box(found) - found) + 0.1 * (images - found)
        found = rounded(found, 32.0)
    return found


TRICKS = [
    Trick(
        name="sawtooth on the pixels",
        stands_for="pixels whose slope has the wrong sign (review)",
        build=_honestly(_sawtooth),
        on_grid=True,
    ),
    Trick(
        name="coarse sawtooth on the pixels",
        stands_for="pixels whose slope has the wrong sign (review)",
        build=_honestly(_coarse_sawtooth),
        keeps=False,
    ),
    Trick(
        name="fast sine on the pixels",
        stands_for="shattered gradients (Athalye 2018)",
        build=_honestly(_shattered),
        on_grid=True,
    ),
    Trick(
        name="bit depth",
        stands_for="feature squeezing (Xu 2018), bit depth (Guo 2018)",
        build=_honestly(lambda images: rounded(images, 7.0)),
        keeps=False,
    ),
    Trick(
        name="JPEG",
        stands_for="input transformations (Guo 2018; Athalye 2018)",
        build=_honestly(_jpeg),
        keeps=False,
    ),
    Trick(
        name="median filter",
        stands_for="feature squeezing (Xu 2018)",
        build=_honestly(median),
        keeps=False,
    ),
    Trick(
        name="largest frequencies",
        stands_for="robust sparse Fourier transform (Bafna 2018; Tramer 2020)",
        build=_honestly(lambda x: tf.stop_gradient(_largest_frequencies(x))),
        keeps=False,
    ),
    Trick(
        name="likeliest pixels",
        stands_for="PixelDefend (Song 2018; Athalye 2018)",
        build=_honestly(_likely_pixels),
        keeps=False,
    ),
    Trick(
        name="thermometer code",
        stands_for="thermometer encoding (Buckman 2018; Athalye 2018)",
        build=_thermometer,
        keeps=False,
    ),
    Trick(
        name="nearest generated image, hidden search",
        stands_for="Defense-GAN (Samangouei 2018; Athalye 2018)",
        build=lambda ground: _generated(ground, is_hidden=True),
        keeps=False,
    ),
    Trick(
        name="nearest generated image, ten unrolled steps",
        stands_for="purifier inside the model (Srinivasan 2021; Croce 2022)",
        build=lambda ground: _generated(ground, is_hidden=False),
        keeps=False,
    ),
    Trick(
        name="anti-adversary of ten steps",
        stands_for="anti-adversary (Alfarra 2022; Croce 2022)",
        build=lambda ground: _ascent(
            ground, goal=_confidence, size=ground.epsilon, signed=True
        ),
        keeps=False,
    ),
    Trick(
        name="hedge of ten steps",
        stands_for="hedge defence (Wu 2021; Croce 2022)",
        build=lambda ground: _ascent(
            ground, goal=_hedge, size=ground.epsilon / 2, signed=True
        ),
        keeps=False,
    ),
    Trick(
        name="smooth ascent of ten steps",
        stands_for="self-supervised purification (Shi 2021; Croce 2022)",
        build=lambda ground: _ascent(
            ground, goal=_confidence, size=ground.epsilon, signed=False
        ),
        keeps=False,
    ),
    Trick(
        name="rounded diffusion of ten steps",
        stands_for="purification by unrolled denoising (Nie 2022; Lee & Kim 2023)",
        build=_honestly(_denoised, slope=straight(_denoised)),
        keeps=False,
    ),
    Trick(
        name="gradient of a quarter of the pixels",
        stands_for="stop_gradient on part of the input",
        build=_honestly(_half_seen, slope=tf.identity),
    ),
    Trick(
        name="gradient of one pixel",
        stands_for="stop_gradient on nearly all of the input",
        build=_honestly(_corner_seen, slope=tf.identity),
    ),
]
