"""Whole ways from a user's model to a defended one."""

from keras_advdef.recipes.denoise import denoise
from keras_advdef.recipes.harden import harden
from keras_advdef.recipes.hardened_model import HardenedModel

__all__ = ["HardenedModel", "denoise", "harden"]
