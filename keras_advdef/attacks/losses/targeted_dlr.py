"""TargetedDLR: the ratio of Croce and Hein, aimed at one class after the other."""

import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.logits_loss import LogitsLoss
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.masked_classes import MASKED
from keras_advdef.core.predictions import largest_logits, most_likely_wrong

_TINY = 1e-12
_FEWEST_CLASSES = 4


@keras.saving.register_keras_serializable(package="keras_advdef")
class TargetedDLR(LogitsLoss):
    """Maximises `(z_t - z_y) / (z_1 - (z_3 + z_4) / 2)` for a target class t.

    `z_1 >= z_2 >= ...` are the sorted logits. Each run of an attack aims at another
    class: the most likely wrong one on the clean image, then the next (Croce and Hein
    2020). Below four classes there is no fourth logit: the loss is then the plain
    margin `z_t - z_y`, with a warning.

    Args:
        classes: Integer of at least 1. Target classes; at most all wrong ones.

    Raises:
        ValueError: If `classes` is not such an integer.

    Example:

    >>> loss = keras_advdef.attacks.losses.TargetedDLR()
    >>> logits = tf.constant([[2.0, 1.0, 0.0, -1.0]])
    >>> loss.from_logits(logits, tf.constant([0]), tf.constant([1])).numpy()
    array([-0.4], dtype=float32)
    """

    supports_targets = False
    aims = True
    looks_at_clean = True

    def __init__(self, classes: int = 9) -> None:
        self.classes = checked_integer("TargetedDLR", "classes", classes, low=1)

    def targets(self, classes: int) -> int:
        """Returns the number of target classes, below the number of classes."""
        if classes < _FEWEST_CLASSES:
            warnings.warn(
                f"The targeted DLR needs {_FEWEST_CLASSES} classes, the model has "
                f"{classes}: the attack maximises the margin to the target instead.",
                stacklevel=2,
            )
        return min(self.classes, classes - 1)

    def prepare(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        run: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the class that a run aims at, `(batch,)`."""
        ranked = most_likely_wrong(logits_fn(images), labels, self.classes)
        rank = tf.broadcast_to(run % ranked.shape[1], tf.shape(labels))
        return tf.gather(ranked, rank, batch_dims=1)

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the ratio of each image, shape `(batch,)`."""
        classes = logits.shape[-1]
        difference = tf.reduce_sum(
            logits * (tf.one_hot(reference, classes) - tf.one_hot(labels, classes)), -1
        )
        if classes < _FEWEST_CLASSES:
            return difference
        first, _, third, fourth = largest_logits(logits, _FEWEST_CLASSES)
        scale = first - 0.5 * (third + fourth) + _TINY
        # A mask may leave fewer classes.
        return difference / tf.where(fourth > MASKED, scale, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"classes": self.classes}
