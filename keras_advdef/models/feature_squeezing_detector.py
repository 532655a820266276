"""FeatureSqueezingDetector: flags images whose prediction changes when squeezed."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_instance, invalid
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_inputs import add_channels
from keras_advdef.models._detector import Detector

# The largest L1 distance between two distributions.
_FARTHEST = 2.0


@defence(
    DefenceCard(
        summary="Flags images whose prediction changes when they are squeezed.",
        category="input transformation",
        paper="Xu, Evans, Qi: Feature Squeezing: Detecting Adversarial Examples in "
        "Deep Neural Networks, NDSS 2018",
        claim="Detects 98 % of adversarial images on MNIST and 85 % on CIFAR-10, with "
        "less than 5 % false positives.",
        standing="broken",
        breaks=(
            Break(
                attack="detector-aware C&W",
                result="adversarial images with small perturbations go undetected on "
                "MNIST and CIFAR-10",
                source="He, Wei, Chen, Carlini, Song 2017",
            ),
            Break(
                attack="EAD and C&W with high confidence",
                result="detection is bypassed on MNIST, CIFAR-10 and ImageNet",
                source="Sharma, Chen 2018",
            ),
        ),
        gradient="straight-through",
        attacks=("PGD", "SqueezingAware"),
        training_cost="none; one pass over clean images to calibrate",
        inference_cost="one more pass of the classifier per squeezer",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class FeatureSqueezingDetector(Detector):
    """Compares a classifier's predictions on images and on squeezed copies of them.

    The score of an image is the largest L1 distance, over the squeezers, between the
    softmax of the classifier on the image and on the squeezed image. An image is
    flagged if its score is above the threshold, and none is until `calibrate` has set
    one. All copies go through the classifier in one batch.

    Attacks and `evaluate_robustness` see `logits`: the classifier's, and one for
    "flagged", which is the largest exactly where the verdict is true (as in Carlini and
    Wagner 2017, "Adversarial Examples Are Not Easily Detected").

    Args:
        classifier: A `keras.Model` that maps images to logits or to probabilities.
            One unit counts as two classes.
        squeezers: Layers that take and return images of the classifier's shape, such
            as `BitDepthReduction`, `MedianSmoothing` and `NonLocalMeans`. Each sees
            the original image.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)` in the classifier's
            range.
        training: Whether the classifier is called as in training.

    Returns:
        A dictionary: "probabilities" `(batch, classes)`, "score" `(batch,)` in
        `[0, 2]`, "verdict" `(batch,)`, true for flagged images.

    Raises:
        TypeError: If the classifier is not a `keras.Model`, or a squeezer not a layer.
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

    largest_score = _FARTHEST
    steepness = 10.0

    def __init__(
        self,
        classifier: keras.Model,
        squeezers: Sequence[keras.layers.Layer],
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
        owner = "FeatureSqueezingDetector"
        if not squeezers:
            raise invalid(owner, "squeezers", "at least one layer", squeezers)
        self.squeezers = [
            checked_instance(owner, "squeezers", each, keras.layers.Layer)
            for each in squeezers
        ]
        self.connect()

    def member_logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the classifier's logits on the images and on each squeezed copy.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training.

        Returns:
            Float32 tensor of shape `(batch, 1 + squeezers, classes)`.
        """
        images = add_channels(tf.convert_to_tensor(images))
        copies = [images, *(squeeze(images) for squeeze in self.squeezers)]
        copies = [tf.cast(copy, copies[-1].dtype) for copy in copies]
        function = LogitsFunction(self.classifier, training=training)
        logits = function(tf.concat(copies, axis=0))
        return tf.stack(tf.split(logits, len(copies), axis=0), axis=1)

    def scored(self, images: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the classifier's logits and how far squeezing moves its softmax."""
        members = self.member_logits(images, training=training)
        return members[:, 0], tf.reduce_max(distances(members), axis=1)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        squeezers = [serialize(each) for each in self.squeezers]
        return {**super().get_config(), "squeezers": squeezers}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureSqueezingDetector":
        """Returns a detector made from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        squeezers = [restore(each) for each in config["squeezers"]]
        return super().from_config({**config, "squeezers": squeezers})


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
