"""Nets that hide their gradients, built without any layer of the package.

Each wraps a trained net that every attack breaks, so any apparent robustness is due
to the mask.
"""

import keras
import tensorflow as tf


class _Wrapped(keras.layers.Layer):
    """A layer that applies a function, as users write it."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self._function = function

    def call(self, inputs):
        return self._function(inputs)


def _around(net, *, front=(), back=()):
    return keras.Sequential([keras.Input((8, 8, 1)), *front, net, *back])


def saturated(net):
    """Logits a thousand times too large, whose cross-entropy has no gradient."""
    return _around(net, back=[keras.layers.Rescaling(1000.0)])


def quantised(net):
    """Pixels rounded to three bits by an operation without a gradient."""
    return _around(
        net, front=[_Wrapped(lambda x: tf.round(x * 7) / 7, name="rounding")]
    )


class _AlwaysNoise(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs):
        shape = keras.ops.shape(inputs)
        return inputs + 0.2 * keras.random.normal(shape, seed=self.seeds)


def noisy(net):
    """Noise on the pixels at every call."""
    return _around(net, front=[_AlwaysNoise()])


def stopped(net):
    """A net with `stop_gradient` in the middle."""
    inputs = keras.Input((8, 8, 1))
    middle = _Wrapped(tf.stop_gradient, name="wall")
    outputs = inputs
    for index, layer in enumerate(net.layers):
        outputs = layer(outputs)
        outputs = middle(outputs) if index == 1 else outputs
    return keras.Model(inputs, outputs)


def steep(net):
    """Probabilities so steep that they are one-hot, by a hidden softmax."""
    return _around(net, back=[_Wrapped(_steep_probabilities)])


def _steep_probabilities(logits):
    return tf.exp(tf.nn.log_softmax(1000.0 * logits))


class _AlwaysDropout(keras.layers.Dropout):
    def call(self, inputs, training=None):
        del training
        return super().call(inputs, training=True)


def dropping(net):
    """Dropout that stays on."""
    return _around(net, front=[_AlwaysDropout(0.25, seed=3)])


class _Detector(keras.layers.Layer):
    """Appends a logit that grows with the number of pixels no clean image has."""

    def call(self, inputs):
        images, logits = inputs
        score = oddness(images)
        verdict = tf.reduce_max(logits, axis=1) + 1000.0 * (score - _ODD)
        return tf.concat([logits, verdict[:, None]], axis=1)


# In the digits, backgrounds reach up to 0.4 and bars start at 0.5.
_EMPTY, _REACH, _ODD = 0.45, 0.05, 0.004


def oddness(images):
    """How much of an image is in the gap between background and bars."""
    return tf.reduce_mean(tf.nn.relu(_REACH - tf.abs(images - _EMPTY)), (1, 2, 3))


def detecting(net):
    """An extra class for images with pixels between background and bar."""
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, _Detector()([inputs, net(inputs)]))
