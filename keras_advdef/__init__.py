"""Defences against adversarial images as Keras building blocks."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "`keras_advdef` expects the Keras backend to be tensorflow. Received: "
        f"{keras.backend.backend()}. Set the environment variable "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    )

from keras_advdef import (
    attacks,
    callbacks,
    core,
    layers,
    losses,
    objectives,
    training,
)

__all__ = [
    "attacks",
    "callbacks",
    "core",
    "layers",
    "losses",
    "objectives",
    "training",
]
__version__ = "0.1.0"
