"""CrossEntropy: the compiled loss on clean images."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@keras.saving.register_keras_serializable(package="keras_advdef")
class CrossEntropy(Objective):
    """The compiled loss on the clean images: plain training.

    Use it for models that their layers or penalties defend.

    Example:

    >>> keras_advdef.objectives.CrossEntropy().get_config()
    {}
    """

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each clean image, their outputs, and `None`."""
        del adversarial
        outputs = model(images, training=True)
        return model.example_losses(labels, outputs), outputs, None
