"""SqueezingAware: the loss of an adaptive attack on feature squeezing."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.core.errors import checked_number, wrong_type
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.predictions import logit_margin
from keras_advdef.models.feature_squeezing_detector import (
    FeatureSqueezingDetector,
    distances,
)


@keras.saving.register_keras_serializable(package="keras_advdef")
class SqueezingAware(AttackLoss):
    """Rewards a wrong prediction that no squeezer reveals.

    `min(lead - confidence, 0) - weight * sum_j max(d_j - threshold, 0)`, where `lead`
    is the logit margin of the best wrong class and `d_j` the L1 distance of squeezer j.
    This is the loss of the adaptive attack that the authors of feature squeezing
    publish with their detector, without the norm, which the attack's ball replaces. It
    is zero only for a success.

    Attacks count flagged images as successes too, so leave the attack's `stop_early`
    off and judge by prediction and verdict.

    Args:
        confidence: Logit margin that is enough, at least 0. If it is small, the attack
            stops where squeezing still reverts the prediction.
        weight: Positive weight of the detector's term.

    Raises:
        ValueError: If an argument is outside its bounds.
        TypeError: In the call, if the model is no `FeatureSqueezingDetector`.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> detector = keras_advdef.models.FeatureSqueezingDetector(
    ...     classifier, [keras_advdef.layers.MedianSmoothing(2)])
    >>> attack = keras_advdef.attacks.PGD(
    ...     0.1, steps=3, loss=keras_advdef.models.SqueezingAware())
    >>> images = np.full((2, 4, 4, 1), 0.5, "float32")
    >>> attack.generate(detector, images, np.array([0, 1]), verbose=0).shape
    (2, 4, 4, 1)
    """

    supports_targets = False

    def __init__(self, *, confidence: float = 5.0, weight: float = 1.0) -> None:
        owner = "SqueezingAware"
        self.confidence = checked_number(owner, "confidence", confidence, low=0.0)
        self.weight = checked_number(owner, "weight", weight, low=0.0, low_open=True)

    def __call__(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the loss of each image, at most 0, float32 of shape `(batch,)`."""
        del reference
        detector = logits_fn.model
        if not isinstance(detector, FeatureSqueezingDetector):
            rule = "a `FeatureSqueezingDetector`"
            raise wrong_type("SqueezingAware", "model", rule, detector)
        members = logits_fn.member_logits(images)
        ahead = logit_margin(members[:, 0], labels, targeted=False) - self.confidence
        threshold = tf.convert_to_tensor(detector.threshold)
        noticed = tf.maximum(distances(members) - threshold, 0.0)
        return tf.minimum(ahead, 0.0) - self.weight * tf.reduce_sum(noticed, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {"confidence": self.confidence, "weight": self.weight}
