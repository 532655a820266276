"""Small nets with broken defences, trained on the digits."""

import keras

from keras_advdef.attacks import PGD
from keras_advdef.layers import BitDepthReduction, RandomNoise, RandomResizePad
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net

_SOFT = keras.losses.CategoricalCrossentropy(from_logits=True)
_SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fitted(build, digits, *, epochs=12, loss=_SPARSE, labels=None):
    """Returns the net that `build` makes, trained reproducibly."""
    keras.utils.set_random_seed(1)
    net = build()
    net.compile(keras.optimizers.Adam(0.01), loss)
    labels = digits.y_train if labels is None else labels
    net.fit(digits.x_train, labels, epochs=epochs, verbose=0)
    return net


def distilled(digits, temperature):
    """A student of a teacher, both trained at `temperature` and used at 1."""

    def hot():
        net = small_net()
        # Logits as large as the temperature are slow to learn from small weights.
        net.layers[-1].kernel.assign(temperature * net.layers[-1].kernel)
        return keras.Sequential([net, keras.layers.Rescaling(1.0 / temperature)])

    teacher = fitted(hot, digits)
    soft = keras.ops.softmax(teacher.predict(digits.x_train, verbose=0))
    return fitted(hot, digits, loss=_SOFT, labels=soft).layers[0]


def bit_depth(digits):
    """Three bits per pixel."""
    return fitted(lambda: small_net(front=[BitDepthReduction(3)]), digits)


def noisy(digits):
    """Noise on the pixels in training and at inference."""
    return fitted(lambda: small_net(front=[RandomNoise(0.1, seed=0)]), digits)


def resize_pad(digits):
    """Random sizes and positions."""

    def build():
        front = [RandomResizePad(output_size=11, min_size=8, seed=0)]
        return small_net(front=front)

    return fitted(build, digits, epochs=20)


def adversarially_trained(digits, epsilon):
    """Trained on PGD-5 against itself."""

    def build():
        attack = PGD(epsilon, steps=5, return_best=False)
        return AdversarialTrainingModel(small_net(), attack)

    return fitted(build, digits, epochs=20).classifier
