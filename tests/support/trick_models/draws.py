"""Defences that draw random numbers at every call, and tell nobody."""

import numpy as np
import tensorflow as tf

from tests.support.trick_models.operations import flat, patches, principal
from tests.support.trick_models.trick import Built, Trick, fronted, model_of


def _noisy(ground):
    return fronted(ground, lambda x: x + 0.1 * tf.random.normal(tf.shape(x)))


def _noisy_everywhere(ground):
    """Noise before every convolution, for a net trained with it."""
    import keras

    class Noise(keras.layers.Layer):
        def call(self, inputs):
            return inputs + 0.2 * tf.random.normal(tf.shape(inputs))

    def active():
        return keras.Sequential([Noise(), keras.layers.Activation("relu")])

    net = ground.fit(lambda: ground.plain(activation=active))
    return Built(model=net, inside=(_averaged(net), ground.net))


def _averaged(net, draws=10):
    """The mean log-probabilities of several draws."""
    return lambda x: sum(tf.nn.log_softmax(net(x)) for _ in range(draws)) / draws


def _drawn(front, *, smooth=None):
    """A random front, attacked through the mean of draws; some need a smooth one."""

    def build(ground):
        model = fronted(ground, front)
        seen = model if smooth is None else fronted(ground, smooth)
        return Built(model=model, inside=(_averaged(seen), ground.net))

    return build


def _resized(images):
    """A random size, and a random place in the old frame."""
    size = images.shape[1]
    new = tf.random.uniform([], size - size // 6, size + 1, tf.int32)
    small = tf.image.resize(images, [new, new])
    small.set_shape([None, None, None, images.shape[3]])
    room = size - new + 1
    row, col = (tf.random.uniform([], 0, room, tf.int32) for _ in range(2))
    padding = [[0, 0], [row, size - new - row], [col, size - new - col], [0, 0]]
    return tf.ensure_shape(tf.pad(small, padding), images.shape)


def _deflected(images):
    """A fifth of the pixels take the value of a random neighbour."""
    near = patches(images)
    chosen = tf.random.uniform(tf.shape(images), 0, near.shape[-1], tf.int32)
    other = tf.gather(near, chosen, axis=-1, batch_dims=4)
    return tf.where(tf.random.uniform(tf.shape(images)) < 0.2, other, images)


def _jostled(images):
    """Random contrast, offset and noise, one after the other."""
    shape = [tf.shape(images)[0], 1, 1, 1]
    found = images * tf.random.uniform(shape, 0.7, 1.2)
    found += tf.random.uniform(shape, -0.1, 0.1)
    noise = tf.random.normal(tf.shape(images))
    return found + tf.random.uniform(shape, 0.0, 0.1) * noise


def _barrage(images):
    """The same, and rounding to a random number of levels."""
    levels = tf.random.uniform([tf.shape(images)[0], 1, 1, 1], 4.0, 32.0)
    return tf.round(_jostled(images) * levels) / levels


def _sampled(images):
    """Random pixels removed, and the others brightened."""
    kept = tf.cast(tf.random.uniform(tf.shape(images)) < 0.7, images.dtype)
    return images * kept / 0.7


def _completed(images):
    """Random pixels removed and filled in by an image of low rank."""
    known = tf.transpose(_sampled(images), [0, 3, 1, 2])
    sizes, left, right = tf.linalg.svd(tf.stop_gradient(known))
    sizes = tf.where(tf.range(sizes.shape[-1]) < 4, sizes, 0.0)
    found = tf.matmul(left * sizes[..., None, :], right, transpose_b=True)
    return tf.transpose(found, [0, 2, 3, 1])


def _pruned(ground):
    """Activations of the plain net that survive by chance, in proportion to size."""
    net = ground.net

    def forward(images):
        values = images
        for layer in net.layers:
            values = layer(values)
            if "activation" in layer.name:
                values = _survivors(values)
        return values

    return Built(
        model=model_of(ground, forward, net),
        inside=(_averaged(forward), net),
    )


def _survivors(values):
    rows = tf.reshape(values, [-1, int(np.prod(values.shape[1:]))])
    sizes = tf.abs(rows)
    shares = sizes / (tf.reduce_sum(sizes, 1, keepdims=True) + 1e-9)
    survival = 1.0 - tf.pow(1.0 - tf.minimum(shares, 0.999), rows.shape[1])
    kept = tf.random.uniform(tf.shape(rows)) < survival
    found = tf.where(kept, rows / tf.maximum(survival, 1e-3), 0.0)
    return tf.reshape(found, tf.shape(values))


def _switching(ground):
    """One of three nets by chance."""
    nets = ground.shared

    def forward(images):
        chosen = tf.one_hot(tf.random.uniform([], 0, len(nets), tf.int32), len(nets))
        return sum(chosen[i] * net(images) for i, net in enumerate(nets))

    def joint(images):
        return sum(tf.nn.log_softmax(net(images)) for net in nets)

    return Built(model=model_of(ground, forward, *nets), inside=(joint, *nets))


def _mixed(ground):
    """Mean probabilities of mixtures with random training images."""
    pool, net = tf.constant(ground.images[:500]), ground.net

    def forward(images):
        total = 0.0
        for _ in range(5):
            rows = tf.random.uniform(tf.shape(images)[:1], 0, len(pool), tf.int32)
            mixed = 0.65 * images + 0.35 * tf.gather(pool, rows)
            total += tf.nn.softmax(net(mixed))
        return tf.math.log(total / 5.0 + 1e-9)

    return Built(
        model=model_of(ground, forward, net), inside=(_averaged(forward, 4), net)
    )


def _every_scale(ground):
    """The median over noisy copies in several resolutions."""
    net, size = ground.net, ground.shape[0]

    def copies(images):
        for scale in (size, size, 3 * size // 4, size // 2):
            noisy = images + 0.1 * tf.random.normal(tf.shape(images))
            small = tf.image.resize(noisy, [scale, scale])
            yield net(tf.image.resize(small, [size, size]))

    def forward(images):
        return tf.sort(tf.stack(list(copies(images))), 0)[1]

    return Built(model=model_of(ground, forward, net), inside=(_averaged(forward), net))


def _noisy_scores(ground):
    net = ground.net

    def forward(images):
        logits = net(images)
        return logits + 2.0 * tf.random.normal(tf.shape(logits))

    return model_of(ground, forward, net)


def _langevin(ground):
    """Ten noisy steps down the energy of a linear model of the images."""
    mean, parts = principal(ground.images, 20)
    net = ground.net

    def forward(images):
        found = images
        for _ in range(10):
            rows = flat(found) - mean
            left = tf.reshape(rows - (rows @ parts.T) @ parts, tf.shape(images))
            noise = tf.random.normal(tf.shape(images))
            found = found - 0.2 * left + 0.03 * noise
        return net(found)

    return Built(model=model_of(ground, forward, net), inside=(_averaged(forward), net))


def _dropped(images):
    kept = tf.random.uniform(tf.shape(images)) < 0.8
    return tf.where(kept, images / 0.8, 0.0)


def _shifted(images):
    """Moves all images by at most a pixel."""
    shift = tf.random.uniform([2], -1, 2, tf.int32)
    return tf.roll(images, shift, [1, 2])


TRICKS = [
    Trick(name=name, stands_for=text, build=build, keeps=False, is_random=True)
    for name, text, build in (
        (
            "noise on the pixels",
            "unnoticed noise at inference (Cohen 2019 without votes)",
            _noisy,
        ),
        (
            "noise in every layer",
            "random self-ensemble (Liu 2018; Athalye 2018)",
            _noisy_everywhere,
        ),
        (
            "random size and place",
            "randomization (Xie 2018; Athalye 2018)",
            _drawn(_resized),
        ),
        ("random shift", "random crops (Guo 2018)", _drawn(_shifted)),
        ("random neighbours", "pixel deflection (Prakash 2018)", _drawn(_deflected)),
        (
            "random transformations",
            "barrage of random transforms (Raff 2019; Sitawarin 2022)",
            _drawn(_barrage, smooth=_jostled),
        ),
        (
            "random pixels filled in",
            "ME-Net (Yang 2019; Tramer 2020)",
            _drawn(_completed, smooth=_sampled),
        ),
        ("dropped pixels", "dropout left on at inference", _drawn(_dropped)),
        (
            "randomly pruned activations",
            "stochastic activation pruning (Dhillon 2018; Athalye 2018)",
            _pruned,
        ),
        ("one of three nets by chance", "random switching (Wang 2019)", _switching),
        (
            "random mixtures",
            "mixup inference (Pang 2020; Tramer 2020)",
            _mixed,
        ),
        (
            "median of noisy scales",
            "ensemble everything everywhere (Fort 2024; Zhang 2024)",
            _every_scale,
        ),
        (
            "ten noisy steps down an energy",
            "purification by an energy-based model (Hill 2021)",
            _langevin,
        ),
        (
            "noise on the logits",
            "small noise against queries (Byun 2022; Qin 2021)",
            _noisy_scores,
        ),
    )
]
