"""The logits of a classifier that is part of a larger model."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import kept_losses
from keras_advdef.core.logits import LogitsModel
from keras_advdef.core.model_inputs import call_classifier, lone_images
from keras_advdef.core.probabilities import logits_of


def classifier_logits(
    classifier: Any, images: Any, *, training: bool = False
) -> tf.Tensor:
    """Calls a classifier as Keras does, and undoes its softmax.

    Unlike `LogitsFunction`, which attacks use, it lets moving averages move and random
    layers count on, so that a model made of classifiers can be trained.

    Args:
        classifier: A `keras.Model` that returns logits, or probabilities if it ends in
            a softmax of Keras.
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: Whether it is called as in training.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> from keras_advdef.core.classifier_logits import classifier_logits
    >>> classifier_logits(model, np.zeros((1, 2))).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """
    if isinstance(classifier, LogitsModel):
        return tf.cast(classifier.logits(images, training=training), tf.float32)
    outputs = call_classifier(classifier, images, training=training)
    return logits_behind(classifier, images, outputs)


def logits_behind(classifier: Any, images: Any, outputs: Any) -> tf.Tensor:
    """Returns the logits for what a classifier returned, at no further pass.

    Args:
        classifier: A `keras.Model`.
        images: What it was called on.
        outputs: What it returned.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    >>> from keras_advdef.core.classifier_logits import logits_behind
    >>> x = np.zeros((1, 2))
    >>> logits_behind(model, x, model(x)).numpy().tolist()
    [[0.0, 0.0]]
    """

    def run(probes: tf.Tensor) -> Any:
        with kept_losses(classifier), keras.StatelessScope():
            return call_classifier(classifier, probes, training=False)

    images = tf.convert_to_tensor(lone_images("classifier_logits", images))
    return logits_of("classifier_logits", classifier, images, outputs, run)
