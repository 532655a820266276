"""Defences against adversarial images as Keras building blocks."""

import os as _os
import sys as _sys


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise ImportError(
            "`keras_advdef` expects the Keras backend to be tensorflow. Received: "
            f"{name}. Set the environment variable KERAS_BACKEND=tensorflow before "
            "Keras is imported."
        )


# Keras itself fails to import, in many lines, where the named backend is missing.
if "keras" not in _sys.modules:
    _check_backend(_os.environ.get("KERAS_BACKEND", "tensorflow"))

import keras as _keras  # noqa: E402 - after the check

_check_backend(_keras.backend.backend())

from keras_advdef import (  # noqa: E402 - after the check
    attacks,
    callbacks,
    constraints,
    core,
    evaluation,
    layers,
    losses,
    models,
    objectives,
    recipes,
    surgery,
    training,
)
from keras_advdef.recipes.harden import harden  # noqa: E402 - after the check

__all__ = [
    "attacks",
    "callbacks",
    "constraints",
    "core",
    "evaluation",
    "harden",
    "layers",
    "losses",
    "models",
    "objectives",
    "recipes",
    "surgery",
    "training",
]
__version__ = "0.2.0"
