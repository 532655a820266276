"""Models whose answer depends on calls before or on the rest of the batch."""

import keras
import numpy as np
import tensorflow as tf

from tests.support.trick_models.operations import flat, hard, shows
from tests.support.trick_models.trick import Built, Trick, model_of

_CALLS = 30
_REMEMBERED = 600


def _counted(later):
    """The plain net for some calls, then another function of its logits."""

    def build(ground):
        net, other = ground.net, ground.others[0]
        calls = tf.Variable(0, trainable=False, dtype=tf.int64)

        def forward(images):
            number = calls.assign_add(1)
            logits = net(images)
            return tf.where(number < _CALLS, logits, later(ground, images, logits))

        return Built(model=model_of(ground, forward, net, other), inside=(net, other))

    return build


def _hidden(ground, images, logits):
    del ground, images
    return tf.stop_gradient(hard(logits))


def _falsified(ground, images, logits):
    return shows(logits, ground.untrained(images))


def _another(ground, images, logits):
    del logits
    return ground.others[0](images)


def _remembering(ground):
    """Repeats the answer to the nearest image of the last calls, if it is near."""
    net, pixels = ground.net, int(np.prod(ground.shape))
    # Farther away than any image.
    seen = tf.Variable(tf.fill([_REMEMBERED, pixels], -9.0), trainable=False)
    said = tf.Variable(tf.zeros([_REMEMBERED, ground.classes]), trainable=False)
    reach = (1.2 * ground.epsilon) ** 2 * pixels

    def forward(images):
        rows, logits = flat(images), net(images)
        across = rows @ tf.transpose(seen)
        apart = tf.reduce_sum(rows**2, 1, keepdims=True) - 2.0 * across
        apart += tf.reduce_sum(seen**2, 1)
        nearest = tf.argmin(apart, 1)
        is_known = tf.reduce_min(apart, 1) < reach
        answer = tf.where(is_known[:, None], tf.gather(said, nearest), logits)
        seen.assign(tf.concat([rows, seen], 0)[:_REMEMBERED])
        said.assign(tf.concat([answer, said], 0)[:_REMEMBERED])
        return answer

    return model_of(ground, forward, net)


def _normalized_by_batch(ground):
    """BatchNormalization that always takes the statistics of the batch."""

    class Batch(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            del training
            mean, variance = tf.nn.moments(inputs, [0, 1, 2][: inputs.shape.rank - 1])
            normal = (inputs - mean) / tf.sqrt(variance + 1e-3)
            return normal * self.gamma + self.beta

    def active():
        return keras.Sequential([Batch(), keras.layers.Activation("relu")])

    net = ground.fit(lambda: ground.plain(activation=active))
    return Built(model=net, inside=(net, ground.net))


def _centred_batch(ground):
    """Removes from each image what the batch has more than training images."""
    net, usual = ground.net, ground.images.mean(axis=0)

    def forward(images):
        excess = tf.reduce_mean(images, 0) - usual
        return net(images - excess)

    return Built(model=model_of(ground, forward, net), inside=(forward, net))


def _neighbour_in_batch(ground):
    """Adds a part of the next image's scores, and of no gradient."""
    net = ground.net

    def forward(images):
        logits = net(images)
        return logits + 0.6 * tf.stop_gradient(tf.roll(logits, 1, 0))

    return Built(model=model_of(ground, forward, net), inside=(net, forward))


TRICKS = [
    Trick(
        name=f"{what} after {_CALLS} calls",
        stands_for="a model that changes after some calls (review)",
        build=_counted(later),
        keeps=keeps,
    )
    for what, later, keeps in (
        ("labels alone", _hidden, True),
        ("false gradients", _falsified, True),
        ("another net", _another, True),
    )
] + [
    Trick(
        name="answers of remembered images",
        stands_for="stateful defences (Chen 2020; Li 2022, Blacklight)",
        build=_remembering,
    ),
    Trick(
        name="statistics of the batch",
        stands_for="test-time normalization (Croce 2022)",
        build=_normalized_by_batch,
        keeps=False,
    ),
    Trick(
        name="images centred by their batch",
        stands_for="transductive defences (Wu 2020; Chen 2022)",
        build=_centred_batch,
        keeps=False,
    ),
    Trick(
        name="scores leaking from the next image",
        stands_for="an answer that depends on batch-mates (review)",
        build=_neighbour_in_batch,
        keeps=False,
    ),
]
