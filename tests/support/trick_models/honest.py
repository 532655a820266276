"""Honest nets of many kinds, which no check may accuse."""

import keras
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.training import AdversarialTrainingModel
from tests.support.trick_models.trick import Applied, Trick

_layers = keras.layers


def _head(ground, values, activation=None):
    return _layers.Dense(ground.classes, activation=activation)(values)


def _functional(body):
    """A net trained by a function from a symbolic image to symbolic outputs."""

    def build(ground):
        def net():
            inputs = keras.Input(ground.shape)
            return keras.Model(inputs, body(ground, inputs))

        return ground.fit(net)

    return build


def _plain(**changes):
    return lambda ground: ground.fit(lambda: ground.plain(**changes), seed=6)


def _conv(values, filters=8, strides=2, activation="relu"):
    layer = _layers.Conv2D(
        filters, 3, strides=strides, padding="same", activation=activation
    )
    return layer(values)


def _mlp(ground, inputs):
    values = _layers.Flatten()(inputs)
    for _ in range(2):
        values = _layers.Dense(48, activation="relu")(values)
    return _head(ground, values)


def _linear(ground, inputs):
    return _head(ground, _layers.Flatten()(inputs))


def _normalized(ground, inputs):
    values = inputs
    for filters in (8, 16):
        values = _conv(values, filters, activation=None)
        values = _layers.Activation("relu")(_layers.BatchNormalization()(values))
    return _head(ground, _layers.Flatten()(values))


def _residual(ground, inputs):
    values = _conv(inputs, 8)
    for _ in range(2):
        branch = _conv(_layers.BatchNormalization()(values), 8, 1)
        values = _layers.Add()([values, _conv(branch, 8, 1, None)])
    return _head(ground, _layers.Flatten()(_layers.Activation("relu")(values)))


def _pooled(ground, inputs):
    values = _layers.MaxPooling2D(2)(_conv(inputs, 16, 1))
    values = _layers.MaxPooling2D(2)(_conv(values, 16, 1))
    return _head(ground, _layers.Flatten()(values))


def _depthwise(ground, inputs):
    values = _conv(inputs, 16)
    values = _layers.SeparableConv2D(16, 3, padding="same", activation="swish")(values)
    values = _layers.DepthwiseConv2D(3, padding="same", activation="relu")(values)
    return _head(ground, _layers.Flatten()(values))


def _attention(ground, inputs):
    size = ground.shape[0] // 4
    values = _layers.Conv2D(16, size, strides=size)(inputs)
    values = _layers.Reshape((16, 16))(values)
    for _ in range(2):
        normal = _layers.LayerNormalization()(values)
        seen = _layers.MultiHeadAttention(2, 8)(normal, normal)
        values = _layers.Add()([values, seen])
        wide = _layers.Dense(32, activation="gelu")(
            _layers.LayerNormalization()(values)
        )
        values = _layers.Add()([values, _layers.Dense(16)(wide)])
    return _head(ground, _layers.Flatten()(values))


class _Radial(keras.layers.Layer):
    """Squared distances to trained centres, made likelihoods."""

    def build(self, shape):
        self.centres = self.add_weight(
            shape=(40, shape[-1]), initializer="random_uniform", name="centres"
        )

    def call(self, inputs):
        apart = inputs[:, None] - self.centres
        return tf.exp(-tf.reduce_mean(apart**2, -1))


def _radial(ground, inputs):
    return _head(ground, 10.0 * _Radial()(_layers.Flatten()(inputs)))


def _fused_softmax(ground):
    """A softmax inside the last layer, trained on probabilities."""

    def net():
        inputs = keras.Input(ground.shape)
        values = _layers.Flatten()(_conv(_conv(inputs), 16))
        return keras.Model(inputs, _head(ground, values, "softmax"))

    loss = keras.losses.SparseCategoricalCrossentropy()
    return ground.fit(net, loss=loss)


# Keras names a model after its class, and TensorFlow takes no underscore first.
class Probabilities(keras.Model):
    """A subclassed net that returns probabilities."""

    def __init__(self, ground):
        super().__init__()
        self.inner = ground.plain()

    def call(self, images):
        return tf.nn.softmax(self.inner(images))


def _subclassed(ground):
    loss = keras.losses.SparseCategoricalCrossentropy()
    net = ground.fit(lambda: Probabilities(ground), loss=loss)
    net(ground.images[:1])
    return net


def _half(ground):
    """Computed in float16."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return ground.fit(ground.plain, seed=6)
    finally:
        keras.config.set_dtype_policy("float32")


def _in_bytes(ground, inputs):
    """Works on pixels in 0..255 inside, as many published nets do."""
    values = _layers.Rescaling(255.0)(inputs)
    values = _layers.Rescaling(1 / 127.5, offset=-1.0)(values)
    return _head(ground, _layers.Flatten()(_conv(_conv(values), 16)))


def _adversarially_trained(ground):
    attack = PGD(ground.epsilon / 2, steps=5, return_best=False)
    trained = ground.fit(
        lambda: AdversarialTrainingModel(ground.plain(), attack), seed=6
    )
    return trained.classifier


def _ensemble(ground):
    """The mean logits of three nets."""
    inputs = keras.Input(ground.shape)
    nets = [net(inputs) for net in ground.shared]
    return keras.Model(inputs, _layers.Average()(nets))


def _mean_probabilities(ground):
    """The mean probabilities of three nets."""
    inputs = keras.Input(ground.shape)
    shares = [_layers.Softmax()(net(inputs)) for net in ground.shared]
    return keras.Model(inputs, _layers.Average()(shares))


def _smoothed(ground):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    hot = keras.ops.one_hot(ground.labels, ground.classes)
    return ground.fit(ground.plain, loss=loss, labels=hot, seed=6)


def _with_dropout(ground):
    """Dropout that is off at inference, as it should be."""

    def active():
        return keras.Sequential(
            [
                _layers.Activation("relu"),
                _layers.Dropout(0.2),
                _layers.GaussianNoise(0.1),
            ]
        )

    return ground.fit(lambda: ground.plain(activation=active), seed=6)


def _capped(ground):
    """Logits kept small by a tanh, as some nets are trained."""

    def net():
        capped = Applied(lambda logits: 15.0 * tf.tanh(logits / 15.0), name="cap")
        return keras.Sequential([*ground.plain().layers, capped])

    return ground.fit(net, seed=6)


HONEST = [
    Trick(name=name, stands_for=text, build=build, keeps=False)
    for name, text, build in (
        ("conv net", "the plain net, from another seed", _plain()),
        ("smooth activations", "softplus throughout", _plain(activation="softplus")),
        ("tanh activations", "saturating, yet honest", _plain(activation="tanh")),
        ("linear", "one matrix", _functional(_linear)),
        ("perceptron", "two hidden layers", _functional(_mlp)),
        ("batch normalization", "statistics of training", _functional(_normalized)),
        ("residual", "two blocks (He 2016)", _functional(_residual)),
        ("max pooling", "two poolings", _functional(_pooled)),
        ("depthwise", "separable convolutions", _functional(_depthwise)),
        (
            "attention",
            "patches and attention (Dosovitskiy 2021)",
            _functional(_attention),
        ),
        ("radial", "distances to centres (Goodfellow 2015)", _functional(_radial)),
        ("softmax in the last layer", "logits to be recovered", _fused_softmax),
        ("subclassed, returns probabilities", "a hidden softmax", _subclassed),
        ("mixed float16", "half precision inside", _half),
        ("pixels in 0..255 inside", "rescaling layers", _functional(_in_bytes)),
        ("adversarially trained", "PGD-5 (Madry 2018)", _adversarially_trained),
        ("mean logits of three nets", "an ensemble", _ensemble),
        ("mean probabilities of three nets", "an ensemble", _mean_probabilities),
        ("label smoothing", "0.2 (Szegedy 2016)", _smoothed),
        ("dropout in training alone", "off at inference", _with_dropout),
        ("soft-capped logits", "15 tanh(z / 15)", _capped),
    )
]
