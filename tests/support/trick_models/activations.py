"""Masks between the layers, and heads whose gradients fade."""

import keras
import numpy as np
import tensorflow as tf

from tests.support.trick_models.operations import rounded, straight
from tests.support.trick_models.trick import Applied, Built, Trick, model_of


def _through(net, function, *, first=False):
    """A net's logits, with a function after its activations, or the first alone."""

    def forward(images):
        values, found = images, 0
        for layer in net.layers:
            values = layer(values)
            if "activation" in layer.name and not (first and found):
                values, found = function(values), found + 1
        return values

    return forward


def _replaced(function, *, slope=None, first=False):
    """The plain net with a function after its activations."""

    def build(ground):
        net = ground.net
        soft = straight(function) if slope is None else slope
        return Built(
            model=model_of(ground, _through(net, function, first=first), net),
            inside=(_through(net, soft, first=first), net),
        )

    return build


def _winners(share):
    def function(values):
        rows = tf.reshape(values, [-1, int(np.prod(values.shape[1:]))])
        count = max(1, int(share * rows.shape[1]))
        least = tf.math.top_k(rows, count).values[:, -1:]
        kept = tf.where(rows >= least, rows, 0.0)
        return tf.reshape(kept, tf.shape(values))

    return function


def _blocks(values):
    """The larger one of each pair of channels."""
    pairs = tf.reshape(values, [-1, *values.shape[1:-1], values.shape[-1] // 2, 2])
    kept = tf.where(pairs >= tf.reduce_max(pairs, -1, keepdims=True), pairs, 0.0)
    return tf.reshape(kept, tf.shape(values))


def _trained(function, soft):
    """A net trained with an activation, attacked through a softer one."""

    def build(ground):
        def active():
            return Applied(function)

        net = ground.fit(lambda: ground.plain(activation=active))

        def softened(images):
            values = images
            for layer in net.layers:
                is_active = isinstance(layer, Applied)
                values = soft(values) if is_active else layer(values)
            return values

        def averaged(images):
            noise = ground.epsilon / 4
            copies = (
                images + noise * tf.random.normal(tf.shape(images)) for _ in range(8)
            )
            return sum(tf.nn.log_softmax(net(each)) for each in copies)

        return Built(model=net, inside=(averaged, softened, ground.net))

    return build


def _signs(values):
    """One or nothing, trained by a straight-through gradient that is then removed."""
    slope = tf.clip_by_value(values, -1.0, 1.0)
    return slope + tf.stop_gradient(tf.sign(values) - slope)


def _binarized(ground):
    net = ground.fit(lambda: ground.plain(activation=lambda: Applied(_signs)))

    def forward(images):
        values = images
        for layer in net.layers:
            is_sign = isinstance(layer, Applied)
            values = tf.sign(values) if is_sign else layer(values)
        return values

    return Built(model=model_of(ground, forward, net), inside=(net, ground.net))


def _near_the_mean(ground):
    """Features near their channel's mean are replaced by it."""
    net = ground.net
    first = keras.Sequential([keras.Input(ground.shape), *net.layers[:2]])
    values = first(ground.images[:200])
    mean = tf.reduce_mean(values, [0, 1, 2])
    reach = 1.5 * tf.math.reduce_std(values, [0, 1, 2])

    def sparse(values):
        return tf.where(tf.abs(values - mean) < reach, mean, values)

    def partly(values):
        return tf.where(tf.abs(values - mean) < 0.3 * reach, mean, values)

    return _replaced(partly, slope=straight(sparse), first=True)(ground)


def _at_rest(ground):
    """Logits that flow to the nearest resting point, one for each class."""

    def forward(images):
        shares = tf.nn.softmax(net(images))
        for _ in range(30):
            mean = tf.reduce_sum(shares**2, 1, keepdims=True)
            shares += 0.8 * shares * (shares - mean)
        return 10.0 * shares

    net = ground.net
    return model_of(ground, forward, net)


def _coded(ground):
    """Scores of codewords whose bits are saturated sigmoids."""
    codes = np.sign(np.random.default_rng(0).normal(size=(ground.classes, 32)))
    codes = codes.astype("float32")

    def scores(bits):
        return tf.tanh(bits) @ codes.T

    def build():
        net = ground.plain()
        hidden = net.layers[:-1]
        return keras.Sequential(
            [
                keras.Input(ground.shape),
                *hidden,
                keras.layers.Dense(32),
                Applied(scores, units=ground.classes),
            ]
        )

    net = ground.fit(build)
    bits = keras.Sequential([keras.Input(ground.shape), *net.layers[:-1]])

    def saturated(images):
        return tf.tanh(30.0 * bits(images)) @ codes.T

    def linear(images):
        return bits(images) @ codes.T

    return Built(
        model=model_of(ground, saturated, bits), inside=(net, linear, ground.net)
    )


def _centred(ground):
    """Negative squared distances to far class centres."""
    drawn = np.random.default_rng(0).normal(size=(ground.classes, 16))
    centres = 10.0 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    centres = centres.astype("float32")

    def scores(features):
        apart = features[:, None] - centres
        return -tf.reduce_sum(apart**2, -1)

    def build():
        hidden = ground.plain().layers[:-1]
        return keras.Sequential(
            [
                keras.Input(ground.shape),
                *hidden,
                keras.layers.Dense(16),
                Applied(scores, units=ground.classes),
            ]
        )

    net = ground.fit(build)
    return Built(model=net, inside=(net, lambda images: 0.02 * net(images), ground.net))


def _generative(ground):
    """Steep likelihoods of the image under a linear model of each class."""
    from tests.support.trick_models.operations import flat, principal

    models = [
        principal(ground.images[ground.labels == label], 8)
        for label in range(ground.classes)
    ]

    def errors(images):
        found = []
        for mean, parts in models:
            rows = flat(images) - mean
            left = rows - (rows @ parts.T) @ parts
            found.append(tf.reduce_sum(left**2, 1))
        return -tf.stack(found, 1)

    return Built(
        model=model_of(ground, lambda images: 500.0 * errors(images)),
        inside=(errors, lambda images: 10.0 * errors(images)),
    )


def _wall(ground):
    """`stop_gradient` between two layers."""
    return _replaced(tf.stop_gradient, slope=tf.identity, first=True)(ground)


TRICKS = [
    Trick(
        name="winners take all",
        stands_for="k-WTA (Xiao 2020; Tramer 2020)",
        build=_trained(_winners(0.15), tf.nn.relu),
        keeps=False,
        square=True,
    ),
    Trick(
        name="local winners",
        stands_for="local winner-take-all (Panousis 2021)",
        build=_trained(_blocks, tf.identity),
        keeps=False,
        square=True,
    ),
    Trick(
        name="rounded activations",
        stands_for="defensive quantization (Lin 2019; Gupta & Ajanthan 2022)",
        build=_replaced(lambda values: rounded(values, 4.0)),
        keeps=False,
    ),
    Trick(
        name="signs as activations",
        stands_for="binarized nets (Galloway 2018; EMPIR, Sen 2020)",
        build=_binarized,
        keeps=False,
        square=True,
    ),
    Trick(
        name="features near their mean",
        stands_for="MeanSparse (Amini 2024)",
        build=_near_the_mean,
        keeps=False,
    ),
    Trick(
        name="logits at rest",
        stands_for="SODEF, stable neural ODE (Kang 2021)",
        build=_at_rest,
    ),
    Trick(
        name="saturated codewords",
        stands_for="error-correcting codes (Verma & Swami 2019; Tramer 2020)",
        build=_coded,
        keeps=False,
    ),
    Trick(
        name="distances to far centres",
        stands_for="max-Mahalanobis centres (Pang 2020; Tramer 2020)",
        build=_centred,
        keeps=False,
    ),
    Trick(
        name="steep generative classifier",
        stands_for="generative classifiers (Li 2019; Tramer 2020)",
        build=_generative,
        keeps=False,
    ),
    Trick(
        name="stop_gradient between layers",
        stands_for="a net that is cut for training",
        build=_wall,
    ),
]
