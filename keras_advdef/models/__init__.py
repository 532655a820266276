"""Compositions of classifiers that are used at prediction time."""

from keras_advdef.core.export_model import export_model
from keras_advdef.models.averaging_ensemble import AveragingEnsemble
from keras_advdef.models.defense_gan import DefenseGAN
from keras_advdef.models.feature_squeezing_detector import FeatureSqueezingDetector
from keras_advdef.models.load_for_serving import load_for_serving
from keras_advdef.models.mnist_critic import mnist_critic
from keras_advdef.models.mnist_generator import mnist_generator
from keras_advdef.models.random_self_ensemble import RandomSelfEnsemble
from keras_advdef.models.smoothed_classifier import SmoothedClassifier
from keras_advdef.models.squeezing_aware import SqueezingAware

__all__ = [
    "AveragingEnsemble",
    "DefenseGAN",
    "FeatureSqueezingDetector",
    "RandomSelfEnsemble",
    "SmoothedClassifier",
    "SqueezingAware",
    "export_model",
    "load_for_serving",
    "mnist_critic",
    "mnist_generator",
]
