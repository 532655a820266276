"""TrainedClassifier: a classifier as objectives and penalties see it."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.logits import LogitsModel, logits_from_outputs
from keras_advdef.core.model_inputs import call_classifier


class TrainedClassifier:
    """The classifier of a training step, together with the images of the batch.

    All other attributes are those of the training model.

    Args:
        model: The training model.
        classifier: The part of it that runs on `images`.
        images: A batch of images.

    Example:

    >>> net = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> x = tf.zeros((1, 2))
    >>> from keras_advdef.core.trained_classifier import TrainedClassifier
    >>> model = TrainedClassifier(net, net, x)
    >>> model.logits_of(model(x, training=True)).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """

    def __init__(
        self, model: keras.Model, classifier: keras.Model, images: tf.Tensor
    ) -> None:
        self._model = model
        self._images = images
        self.classifier = classifier

    def __call__(self, images: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the classifier."""
        return call_classifier(self.classifier, images, training=training)

    def logits_of(self, outputs: Any) -> tf.Tensor:
        """Returns the logits of outputs, without another forward pass.

        Args:
            outputs: Outputs of the classifier for images of this shape.

        Returns:
            Float32 tensor of shape `(batch, classes)`, with at least two classes.
        """
        return logits_from_outputs(self.classifier, self._images, outputs)

    def __getattr__(self, name: str) -> Any:
        if name == "_model":
            # Asked for by `copy`, which does not call the constructor.
            raise AttributeError(name)
        return getattr(self._model, name)


def trained_classifier(
    model: keras.Model | TrainedClassifier, images: tf.Tensor
) -> TrainedClassifier:
    """Returns a model as objectives and penalties see it.

    Args:
        model: A training model or any other classifier; a `TrainedClassifier` is
            returned unchanged.
        images: A batch of images.

    Example:

    >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> from keras_advdef.core.trained_classifier import trained_classifier
    >>> trained_classifier(net, tf.zeros((1, 2))).classifier is net
    True
    """
    if isinstance(model, TrainedClassifier):
        return model
    if isinstance(model, LogitsModel):
        return TrainedClassifier(model, model.classifier_to_train(), images)
    return TrainedClassifier(model, model, images)
