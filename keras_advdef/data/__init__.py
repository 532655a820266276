"""Data sets whose order can be repeated."""

from keras_advdef.data.epoch_shuffle import EpochShuffle

__all__ = ["EpochShuffle"]
