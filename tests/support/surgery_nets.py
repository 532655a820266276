"""Nets for surgery, with everything that can go wrong."""

import keras
import numpy as np


def branched_net() -> keras.Model:
    """Two inputs, a shared convolution, a nested net used twice, two outputs."""
    layers = keras.layers
    left, right = keras.Input((9, 5, 2), name="left"), keras.Input((9, 5, 2), name="r")
    shared = layers.Conv2D(3, 3, padding="same", activation="relu", name="shared")
    block = keras.Sequential(
        [
            keras.Input((9, 5, 3)),
            layers.Conv2D(3, 1, use_bias=False, name="inside"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
        ],
        name="block",
    )
    first, second = block(shared(left)), block(shared(right))
    x = keras.ops.relu(layers.Add()([first, second]) - 0.1)
    features = layers.GlobalAveragePooling2D(name="features")(x)
    outputs = layers.Dense(3, name="head")(features)
    return keras.Model([left, right], [outputs, features], name="branched")


def branched_images(count=3) -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    return [generator.uniform(size=(count, 9, 5, 2)).astype("float32") for _ in "lr"]


class Subclassed(keras.Model):
    """A model that hides the order of its layers."""

    def __init__(self):
        super().__init__(name="hidden")
        self.convolution = keras.layers.Conv2D(2, 3, activation="relu")

    def call(self, images):
        return keras.ops.mean(self.convolution(images), axis=(1, 2))
