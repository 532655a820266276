"""Small generators of images, always with the same weights."""

import math

import keras


def small_generator(
    shape=(8, 8, 1), *, latent_dim=4, activation="sigmoid"
) -> keras.Sequential:
    """A dense generator of images of a given shape."""
    size = math.prod(shape)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(16, "tanh", kernel_initializer=_normal(1, 1.0)),
            layers.Dense(size, activation, kernel_initializer=_normal(2, 0.5)),
            layers.Reshape(shape),
        ]
    )


def _normal(seed, stddev):
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)
