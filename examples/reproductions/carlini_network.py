"""The MNIST network that distillation's authors and critics used."""

import keras


def carlini_network() -> keras.Model:
    """Returns a net of 312 202 parameters that ends in logits.

    Papernot et al. (IEEE S&P 2016) distilled it, Carlini and Wagner (IEEE S&P 2017)
    attacked it, and Xu et al. (NDSS 2018) put their detector in front of it.
    """
    layers = keras.layers
    convolutions = [
        layer
        for filters in (32, 64)
        for layer in (
            layers.Conv2D(filters, 3, activation="relu"),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(),
        )
    ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1.0, offset=-0.5),
            *convolutions,
            layers.Flatten(),
            layers.Dense(200, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(200, activation="relu"),
            layers.Dense(10),
        ]
    )
