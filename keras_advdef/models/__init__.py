"""Compositions of classifiers that are used at prediction time."""

from keras_advdef.models.feature_squeezing_detector import FeatureSqueezingDetector
from keras_advdef.models.squeezing_aware import SqueezingAware

__all__ = ["FeatureSqueezingDetector", "SqueezingAware"]
