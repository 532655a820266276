"""Models with a training step of their own."""

from keras_advdef.training.adversarial_training_model import AdversarialTrainingModel
from keras_advdef.training.distillation_trainer import DistillationTrainer
from keras_advdef.training.free_adversarial_training_model import (
    FreeAdversarialTrainingModel,
)
from keras_advdef.training.mixed_images import MixedImages
from keras_advdef.training.training_model import TrainingModel
from keras_advdef.training.wasserstein_gan import WassersteinGAN

__all__ = [
    "AdversarialTrainingModel",
    "DistillationTrainer",
    "FreeAdversarialTrainingModel",
    "MixedImages",
    "TrainingModel",
    "WassersteinGAN",
]
