"""Models with a training step of their own."""

from keras_advdef.training.adversarial_training_model import AdversarialTrainingModel
from keras_advdef.training.distillation_trainer import DistillationTrainer
from keras_advdef.training.training_model import TrainingModel

__all__ = ["AdversarialTrainingModel", "DistillationTrainer", "TrainingModel"]
