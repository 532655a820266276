"""PlantedModel: one linear classifier for each image, on the features of a model."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._verdict.last_features import (
    NoFeaturesError,
    last_features,
)

# Features of more values take too much memory; the logits then stand for them.
_LARGEST = 2**16


class FeatureModel(LogitsModel):
    """A model whose "logits" are the features of another, `(batch, size)`.

    They are those before its last layer; where they cannot be found, its logits.

    Args:
        model: A Keras model or a function from images to logits.

    Attributes:
        without_features: Why the logits stand for the features; "" if they do not.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> from keras_advdef.evaluation._verdict.planted_model import FeatureModel
    >>> FeatureModel(model).logits(np.zeros((1, 2, 2, 1), "float32")).shape
    TensorShape([1, 4])
    >>> FeatureModel(lambda images: images[:, 0, 0]).without_features
    'the model is not a graph of layers'
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.graph: keras.Model | None = None
        self.without_features = ""
        try:
            graph = last_features(model)
        except NoFeaturesError as error:
            self.without_features = str(error)
        else:
            size = graph.output_shape[-1]
            if size is None or size > _LARGEST:
                self.without_features = "its last features have too many values"
            else:
                self.graph = graph
        self.built = True

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the features, float32."""
        if self.graph is None:
            # A view's layers are shared with the model, so it holds in here, too.
            return LogitsFunction(ModelView(self.model), training=training)(images)
        found = call_classifier(self.graph, images, training=training)
        return tf.cast(found, tf.float32)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the features, float32."""
        return self.logits(images, training=training)


class PlantedModel(LogitsModel):
    """Two logits, 0 and one that is linear in features, in each row another one.

    Row `i` of a batch belongs to classifier `i`, so a batch has `size` rows.

    Args:
        features: Computes the features.
        size: Rows of a batch.
        width: Values of a row of features.

    Example:

    >>> from keras_advdef.evaluation._verdict.planted_model import (
    ...     FeatureModel, PlantedModel)
    >>> features = FeatureModel(lambda images: tf.reshape(images, (-1, 2)))
    >>> model = PlantedModel(features, size=2, width=2)
    >>> model.plant(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, -1.0]))
    >>> model.logits(tf.ones((2, 2, 1, 1))).numpy().tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, features: FeatureModel, *, size: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.slopes = self.add_weight(shape=(size, width), trainable=False)
        self.offsets = self.add_weight(shape=(size,), trainable=False)
        self.built = True

    def plant(self, slopes: np.ndarray, offsets: np.ndarray) -> None:
        """Sets the classifiers.

        Args:
            slopes: Array `(size, width)`.
            offsets: Array `(size,)`.
        """
        self.slopes.assign(slopes)
        self.offsets.assign(offsets)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the two logits, `(size, 2)`."""
        features = self.features.logits(images, training=training)
        found = tf.reduce_sum(features * self.slopes, axis=1) + self.offsets
        return tf.stack([tf.zeros_like(found), found], axis=1)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the two logits, `(size, 2)`."""
        return self.logits(images, training=training)
