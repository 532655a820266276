"""A small smooth net, in Keras and in float64, for references in plain NumPy."""

import keras
import numpy as np

from keras_advdef.core.predictions import rounding_margin


class NumpyNet:
    """A net of one hidden layer on 3x3x1 images, with five tanh units."""

    classes = 3

    def __init__(self, seed=3):
        generator = np.random.default_rng(seed)
        self.first = generator.normal(size=(9, 5))
        self.second = 2.0 * generator.normal(size=(5, self.classes))
        self.keras = keras.Sequential(
            [
                keras.Input((3, 3, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(5, activation="tanh"),
                keras.layers.Dense(self.classes),
            ]
        )
        zeros = np.zeros(5), np.zeros(self.classes)
        self.keras.set_weights([self.first, zeros[0], self.second, zeros[1]])

    def logits(self, image):
        return np.tanh(image @ self.first) @ self.second

    def gradient(self, image, slopes):
        """The gradient of a function of the logits, from its slopes there."""
        hidden = np.tanh(image @ self.first)
        return self.first @ ((1.0 - hidden**2) * (self.second @ slopes))

    def margin(self, image, label):
        """The logit margin of an attack, and its slopes."""
        logits = self.logits(image)
        other = max(set(range(self.classes)) - {label}, key=lambda each: logits[each])
        slopes = np.eye(self.classes)[other] - np.eye(self.classes)[label]
        return logits @ slopes, slopes

    def least(self, image):
        """The margin that survives rounding."""
        return float(rounding_margin(np.float32(self.logits(image))[None])[0])

    def soft_slopes(self, image, label):
        """Slopes of the soft margin."""
        logits = self.logits(image)
        scale = 20.0 / np.ptp(logits)
        powers = np.exp(scale * (logits - logits.max()))
        powers[label] = 0.0
        slopes = powers / powers.sum()
        slopes[label] = -1.0
        return slopes

    def data(self, count=6, seed=0):
        """Images as float32, and their predicted classes."""
        generator = np.random.default_rng(seed)
        images = generator.uniform(0.1, 0.9, (count, 3, 3, 1)).astype("float32")
        return images, self.logits(images.reshape(count, 9)).argmax(-1)


def path(attack, net, images, labels):
    """The points at which an attack looks, and what it returns; run eagerly."""
    points, move = [], attack.move

    def recorded(state, *arguments):
        points.append(state["point"].numpy().reshape(len(images), -1))
        return move(state, *arguments)

    attack.move = recorded
    found = attack(net.keras, images, labels, seed=0)
    return np.stack(points, axis=1), found.numpy().reshape(len(images), -1)


def check_path(attack, reference, *, net=None, atol=2e-5):
    """Compares an attack's points with those of a reference, image by image.

    Args:
        attack: The attack.
        reference: Function of the net, an image and its label that yields the points.
        net: A `NumpyNet`.
        atol: How far points may be apart.
    """
    net = net or NumpyNet()
    images, labels = net.data()
    points, found = path(attack, net, images, labels)
    succeeded = 0
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        clean = image.ravel().astype(float)
        expected = np.array(list(reference(net, clean, label)))
        np.testing.assert_allclose(points[row], expected, atol=atol)
        nearest = _nearest(net, attack, clean, label, points[row])
        np.testing.assert_array_equal(found[row], np.float32(nearest))
        succeeded += np.any(nearest != clean)
    assert succeeded >= 3


def _nearest(net, attack, clean, label, points):
    """The nearest of the points that is adversarial, else the clean image."""
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[attack.norm]
    wrong = [p for p in points if net.margin(p, label)[0] >= net.least(p)]
    return min(wrong, key=lambda p: np.linalg.norm(p - clean, order), default=clean)
