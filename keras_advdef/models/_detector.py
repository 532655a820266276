"""Detector: base of the models that flag attacked images by a score."""

import math
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.image_source import is_dataset, load_images
from keras_advdef.models._classifier_model import ClassifierModel

# So that rounding errors do not make 100 * (1 - 0.05) more than 95.
_DECIMALS = 9


class Detector(ClassifierModel):
    """Base of classifiers that give each image a score and flag it above a threshold.

    A subclass writes `scored` and sets `largest_score` and `steepness`. Until
    `calibrate` has set the threshold, no image is flagged.

    Attacks and `evaluate_robustness` see `logits`: the classifier's, and one for
    "flagged", which is the largest exactly where the verdict is true (as in Carlini and
    Wagner 2017, "Adversarial Examples Are Not Easily Detected").

    Args:
        classifier: A `keras.Model` that maps images to logits or to probabilities.
            One unit counts as two classes.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.

    Example:

    >>> from keras_advdef.models._detector import Detector
    >>> issubclass(keras_advdef.models.FeatureSqueezingDetector, Detector)
    True
    """

    rejects = True
    # No score is larger.
    largest_score: float
    # By how much the logit of "flagged" leads, per unit of score above the threshold.
    steepness: float

    def __init__(self, classifier: keras.Model, **kwargs: Any) -> None:
        super().__init__(classifier, **kwargs)
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(self.largest_score),
            trainable=False,
            autocast=False,
        )

    def scored(self, images: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits behind the prediction and the score of each image.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training.

        Returns:
            Float32 tensors of shape `(batch, classes)` and `(batch,)`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `scored`.")

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits behind the prediction and one for "flagged".

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training.

        Returns:
            Float32 tensor of shape `(batch, classes + 1)`.
        """
        own, score = self.scored(images, training)
        ahead = self.steepness * (score - self.threshold)
        flagged = tf.reduce_max(own, axis=1) + ahead
        return tf.concat([own, flagged[:, tf.newaxis]], axis=1)

    def call(
        self, images: tf.Tensor, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns probabilities, score and verdict of each image."""
        own, score = self.scored(images, bool(training))
        return {
            "probabilities": tf.nn.softmax(own),
            "score": score,
            "verdict": score > tf.convert_to_tensor(self.threshold),
        }

    def compute_output_spec(
        self, images: tf.Tensor, training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Returns the symbolic outputs."""
        probabilities = super().compute_output_spec(images, training=training)
        count = probabilities.shape[:1]
        return {
            "probabilities": probabilities,
            "score": keras.KerasTensor(count, "float32"),
            "verdict": keras.KerasTensor(count, "bool"),
        }

    def calibrate(
        self,
        clean_images: Any,
        false_positive_rate: float = 0.05,
        *,
        batch_size: int = 128,
        verbose: str | int = "auto",
    ) -> float:
        """Sets the threshold so that few of the given clean images are flagged.

        The threshold is Xu's quantile: of n sorted scores, number
        `ceil(n * (1 - rate))`, counted from 1. Use held-out images.

        Args:
            clean_images: Array, or a batched `tf.data.Dataset` or
                `keras.utils.PyDataset` that has an end, also with labels.
            false_positive_rate: Share of them that may be flagged, in `[0, 1)`.
            batch_size: Images in one pass.
            verbose: 0 for silence, 1 or "auto" to say how many images of a data set
                were taken.

        Returns:
            The threshold, which is saved with the model.

        Raises:
            ValueError: If the rate is outside its bounds or there are no images.
        """
        owner = f"{type(self).__name__}.calibrate"
        rate = checked_number(owner, "false_positive_rate", false_positive_rate, low=0)
        if rate >= 1:
            rule = "a number of at least 0 and below 1"
            raise invalid(owner, "false_positive_rate", rule, rate)
        images = np.asarray(
            load_images(owner, clean_images, argument="clean_images").images
        )
        if not len(images):
            raise invalid(owner, "clean_images", "at least one image", images)
        found = self.predict(images, batch_size=batch_size, verbose=0)
        scores = np.sort(found["score"])
        rank = math.ceil(round(len(scores) * (1.0 - rate), _DECIMALS))
        self.threshold.assign(scores[max(rank, 1) - 1])
        if verbose and is_dataset(clean_images):
            # The length of an array is known.
            name, count = type(self).__name__, len(images)
            sys.stdout.write(f"{name} calibrated on {count} images of the data set.\n")
        return float(self.threshold.numpy())
