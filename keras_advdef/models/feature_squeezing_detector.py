"""FeatureSqueezingDetector: tells attacked images by what squeezing does to them."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.arguments import checked_instance, checked_number
from keras_advdef.core.card_asset import CardAsset
from keras_advdef.core.cards import Break, DefenceCard, card_of, defence
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.logits import LogitsFunction, LogitsModel

# The largest L1 distance between two distributions: nothing is above it.
_FARTHEST = 2.0
# Logits for each unit of score that the verdict's logit is ahead.
_STEEPNESS = 10.0
# 100 * (1 - 0.05) must not be a little more than 95.
_DECIMALS = 9


@defence(
    DefenceCard(
        summary="Flags images whose prediction changes when they are squeezed.",
        category="input transformation",
        paper="Xu, Evans, Qi: Feature Squeezing: Detecting Adversarial Examples in "
        "Deep Neural Networks, NDSS 2018",
        claim="Detects 98 % of adversarial images on MNIST and 85 % on CIFAR-10 with "
        "less than 5 % false positives.",
        standing="broken",
        breaks=(
            Break(
                attack="detector-aware C&W",
                result="adversarial images of small norm are not detected, on MNIST "
                "and CIFAR-10",
                source="He, Wei, Chen, Carlini, Song 2017",
            ),
            Break(
                attack="EAD and C&W of high confidence",
                result="detection is bypassed on MNIST, CIFAR-10 and ImageNet",
                source="Sharma, Chen 2018",
            ),
        ),
        gradient="straight-through",
        attacks=("PGD", "SqueezingAware"),
        training_cost="none; one pass over clean images to calibrate",
        inference_cost="one more pass of the classifier for each squeezer",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class FeatureSqueezingDetector(LogitsModel):
    """Compares a classifier's prediction on images and on squeezed copies of them.

    The score of an image is the largest L1 distance, over the squeezers, between the
    softmax of the classifier on the image and on the squeezed image. An image is
    flagged if its score is above the threshold; until `calibrate` has set that, none
    is. All copies go through the classifier in one batch.

    Attacks and `evaluate_robustness` see `logits`: the classifier's, and one more
    class for "flagged", which wins exactly where the verdict is true (as in Carlini
    and Wagner 2017, "Adversarial Examples Are Not Easily Detected").

    Args:
        classifier: A `keras.Model` that maps images to logits, or to probabilities if
            it ends in a softmax of Keras.
        squeezers: Layers that take and return images of the classifier's shape, such
            as `BitDepthReduction`, `MedianSmoothing` and `NonLocalMeans`. Each works
            on the image by itself.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)` in the classifier's
            range.
        training: Whether the classifier is called as in training.

    Returns:
        A dictionary: "probabilities" `(batch, classes)`, "score" `(batch,)` in
        `[0, 2]`, "verdict" `(batch,)`, true for flagged images.

    Raises:
        TypeError: If the classifier is no `keras.Model` or a squeezer no layer.
        ValueError: If there is no squeezer.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> detector = keras_advdef.models.FeatureSqueezingDetector(
    ...     classifier, [keras_advdef.layers.BitDepthReduction(1)])
    >>> images = np.random.default_rng(0).uniform(0, 1, (40, 8, 8, 1))
    >>> threshold = detector.calibrate(images)
    >>> int(detector.predict(images, verbose=0)["verdict"].sum())
    2
    """

    rejects = True

    def __init__(
        self, classifier: keras.Model, squeezers: Sequence[Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        owner = "FeatureSqueezingDetector"
        self.classifier = checked_instance(owner, "classifier", classifier, keras.Model)
        if not squeezers:
            raise invalid(owner, "squeezers", "at least one layer", squeezers)
        self.squeezers = [
            checked_instance(owner, "squeezers", each, keras.layers.Layer)
            for each in squeezers
        ]
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(_FARTHEST),
            trainable=False,
            autocast=False,
        )
        card = card_of(self)
        if card is not None:
            self._card_asset = CardAsset(self, card)

        if has_graph(classifier):
            # Now it knows its inputs, and can be exported before any use.
            self(keras.KerasTensor(classifier.inputs[0].shape))

    def build(self, input_shape: Any) -> None:
        """Builds the classifier."""
        if not self.classifier.built:
            self.classifier.build(input_shape)
        super().build(input_shape)

    def member_logits(self, images: Any, training: bool = False) -> tf.Tensor:
        """Returns the classifier's logits on the images and on each squeezed copy.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training.

        Returns:
            Float32 tensor of shape `(batch, 1 + squeezers, classes)`.
        """
        images = tf.convert_to_tensor(images)
        copies = [images, *(squeeze(images) for squeeze in self.squeezers)]
        copies = [tf.cast(copy, copies[-1].dtype) for copy in copies]
        function = LogitsFunction(self.classifier, training=training)
        logits = function(tf.concat(copies, axis=0))
        return tf.stack(tf.split(logits, len(copies), axis=0), axis=1)

    def logits(self, images: Any, training: bool = False) -> tf.Tensor:
        """Returns the classifier's logits and one for "flagged".

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training.

        Returns:
            Float32 tensor of shape `(batch, classes + 1)`.
        """
        members = self.member_logits(images, training=training)
        own = members[:, 0]
        ahead = _STEEPNESS * (self._score(members) - self.threshold)
        flagged = tf.reduce_max(own, axis=1) + ahead
        return tf.concat([own, flagged[:, tf.newaxis]], axis=1)

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Returns probabilities, score and verdict of each image."""
        members = self.member_logits(images, training=bool(training))
        score = self._score(members)
        return {
            "probabilities": tf.nn.softmax(members[:, 0]),
            "score": score,
            "verdict": score > tf.convert_to_tensor(self.threshold),
        }

    def compute_output_spec(
        self, images: Any, training: bool | None = None
    ) -> dict[str, Any]:
        """Returns the symbolic outputs."""
        probabilities = self.classifier(images, training=training)
        count = probabilities.shape[:1]
        return {
            "probabilities": keras.KerasTensor(probabilities.shape, "float32"),
            "score": keras.KerasTensor(count, "float32"),
            "verdict": keras.KerasTensor(count, "bool"),
        }

    def _score(self, members: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(distances(members), axis=1)

    def calibrate(
        self,
        clean_images: Any,
        false_positive_rate: float = 0.05,
        *,
        batch_size: int = 128,
    ) -> float:
        """Sets the threshold so that few of the given clean images are flagged.

        It is Xu's quantile: of n sorted scores the one at `ceil(n * (1 - rate))`,
        counted from 1. Take images that the classifier was not trained on.

        Args:
            clean_images: Array, or a batched `tf.data.Dataset`, also with labels.
            false_positive_rate: Share of them that may be flagged, in `[0, 1)`.
            batch_size: Images in one pass, for an array.

        Returns:
            The threshold, which is saved with the model.

        Raises:
            ValueError: If the rate is outside its bounds or there are no images.
        """
        owner = "FeatureSqueezingDetector.calibrate"
        rate = checked_number(owner, "false_positive_rate", false_positive_rate, low=0)
        if rate >= 1:
            rule = "a number of at least 0 and below 1"
            raise invalid(owner, "false_positive_rate", rule, rate)
        if isinstance(clean_images, np.ndarray) and not len(clean_images):
            raise invalid(owner, "clean_images", "at least one image", clean_images)
        size = batch_size if isinstance(clean_images, np.ndarray) else None
        found = self.predict(clean_images, batch_size=size, verbose=0)
        scores = np.sort(found["score"])
        rank = math.ceil(round(len(scores) * (1.0 - rate), _DECIMALS))
        self.threshold.assign(scores[max(rank, 1) - 1])
        return float(self.threshold.numpy())

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "classifier": serialize(self.classifier),
            "squeezers": [serialize(each) for each in self.squeezers],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureSqueezingDetector":
        """Returns a detector made from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        classifier = restore(config["classifier"])
        squeezers = [restore(each) for each in config["squeezers"]]
        rest = {
            name: value
            for name, value in config.items()
            if name not in {"classifier", "squeezers"}
        }
        return cls(classifier, squeezers, **rest)


def distances(members: tf.Tensor) -> tf.Tensor:
    """Returns how far each squeezer moves the softmax, in L1.

    Args:
        members: What `member_logits` returned, `(batch, 1 + squeezers, classes)`.

    Returns:
        Float32 tensor of shape `(batch, squeezers)` in `[0, 2]`.

    Example:

    >>> members = tf.constant([[[50.0, 0.0], [0.0, 50.0], [50.0, 0.0]]])
    >>> from keras_advdef.models.feature_squeezing_detector import distances
    >>> distances(members).numpy().tolist()
    [[2.0, 0.0]]
    """
    probabilities = tf.nn.softmax(members)
    apart = probabilities[:, 1:] - probabilities[:, :1]
    return tf.minimum(tf.reduce_sum(tf.abs(apart), axis=-1), _FARTHEST)
