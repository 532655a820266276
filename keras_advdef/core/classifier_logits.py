"""The logits of a classifier that is part of a larger model."""

import weakref
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.logits import LogitsModel
from keras_advdef.core.softmax_head import without_softmax


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
    outputs = (_bare(classifier) or classifier)(images, training=training)
    return tf.cast(outputs, tf.float32)


# A model made of the classifier's layers anew at each call would stay tied to them.
_BARE: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _bare(classifier: Any) -> keras.Model | None:
    """Returns a classifier without its softmax, `None` if it has none to undo."""
    if not has_graph(classifier):
        return None
    if classifier not in _BARE:
        _BARE[classifier] = without_softmax(classifier)
    return _BARE[classifier]
