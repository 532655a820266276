"""The network and the data that the benchmarks run on."""

import keras
import numpy as np


def madry_network() -> keras.Model:
    """Returns the MNIST network of Madry et al. 2018, which ends in logits."""
    layers = keras.layers
    convolution = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, **convolution),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, **convolution),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10),
        ]
    )


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images in `[0, 1]` and labels; their content does not change the time.

    Args:
        count: Number of images.
    """
    generator = np.random.default_rng(0)
    images = generator.random((count, 28, 28, 1), dtype=np.float32)
    return images, generator.integers(0, 10, count)
