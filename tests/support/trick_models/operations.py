"""Operations that tricks are made of."""

import numpy as np
import tensorflow as tf


@tf.custom_gradient
def shows(value, shown):
    """Returns `value`, with the gradient of `shown`."""
    return tf.identity(value), lambda upstream: (tf.zeros_like(value), upstream)


def with_gradient(function):
    """Returns the identity whose backward pass is `function(upstream, inputs)`."""

    @tf.custom_gradient
    def identity(inputs):
        return tf.identity(inputs), lambda upstream: function(upstream, inputs)

    return identity


def hard(logits, height=10.0):
    """Scores of one class alone."""
    return height * tf.one_hot(tf.argmax(logits, 1), logits.shape[1])


def gaps(logits):
    """Logits minus the largest."""
    return logits - tf.reduce_max(logits, 1, keepdims=True)


def margin(logits):
    """Difference of the two largest logits, `(batch, 1)`."""
    top = tf.math.top_k(logits, 2).values
    return top[:, :1] - top[:, 1:]


def directions(shape, count, seed=0):
    """Random directions of length one, `(pixels, count)`."""
    drawn = np.random.default_rng(seed).normal(size=(int(np.prod(shape)), count))
    return (drawn / np.linalg.norm(drawn, axis=0)).astype("float32")


def flat(images):
    """Images as rows."""
    return tf.reshape(images, [-1, int(np.prod(images.shape[1:]))])


def waves(images, count, *, speed, seed=0):
    """Sines of random projections of the images, in `[-1, 1]`, `(batch, count)`.

    A fast one is a hash: it is the same for the same image, and unlike for others.
    """
    shape = tuple(images.shape[1:])
    return tf.sin(speed * (flat(images) @ directions(shape, count, seed)))


def pixel_waves(images, *, speed, seed=0):
    """Such sines for every pixel, in the images' shape."""
    shape = tuple(images.shape[1:])
    found = waves(images, int(np.prod(shape)), speed=speed, seed=seed)
    return tf.reshape(found, [-1, *shape])


def rounded(values, steps):
    """Values rounded to multiples of `1 / steps`, without a gradient."""
    return tf.round(values * steps) / steps


def straight(function):
    """Returns `function` with the identity as its backward pass."""
    return lambda images: images + tf.stop_gradient(function(images) - images)


def patches(images, size=3):
    """The neighbours of each pixel, `(batch, rows, cols, channels, size**2)`."""
    reach = size // 2
    padding = [[0, 0], [reach, reach], [reach, reach], [0, 0]]
    padded = tf.pad(images, padding, "SYMMETRIC")
    rows, cols = images.shape[1:3]
    moved = [
        padded[:, row : row + rows, col : col + cols]
        for row in range(size)
        for col in range(size)
    ]
    return tf.stack(moved, -1)


def median(images, size=3):
    """The median filter, which has a gradient."""
    return tf.sort(patches(images, size), -1)[..., size**2 // 2]


def box(images, size=3):
    """The mean of neighbours."""
    return tf.reduce_mean(patches(images, size), -1)


def cosines(size):
    """The orthonormal cosine transform of a line of pixels, `(size, size)`."""
    place = np.arange(size)
    waves_of = np.cos(np.pi * (place[None] + 0.5) * place[:, None] / size)
    waves_of *= np.sqrt(2.0 / size)
    waves_of[0] /= np.sqrt(2.0)
    return waves_of.astype("float32")


def to_frequencies(images):
    """The cosine transform of each channel."""
    left, right = cosines(images.shape[1]), cosines(images.shape[2])
    return tf.einsum("ij,bjkc,lk->bilc", left, images, right)


def from_frequencies(frequencies):
    """The inverse of `to_frequencies`."""
    left, right = cosines(frequencies.shape[1]), cosines(frequencies.shape[2])
    return tf.einsum("ij,bilc,lk->bjkc", left, frequencies, right)


def principal(images, count):
    """Mean and principal directions of images, `(pixels,)` and `(count, pixels)`."""
    rows = images[:1000].reshape(len(images[:1000]), -1).astype("float64")
    mean = rows.mean(axis=0)
    parts = np.linalg.svd(rows - mean, full_matrices=False)[2][:count]
    return mean.astype("float32"), parts.astype("float32")
