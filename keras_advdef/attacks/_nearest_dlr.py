"""NearestDLR: the targeted DLR, aimed first at the class whose boundary is nearest."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks._boundary_step import plane_distance
from keras_advdef.attacks._slopes import slopes
from keras_advdef.attacks.losses.targeted_dlr import TargetedDLR
from keras_advdef.core.errors import checked_choice, checked_integer
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import NORMS
from keras_advdef.core.predictions import class_margins, most_likely_wrong


@keras.saving.register_keras_serializable(package="keras_advdef")
class NearestDLR(TargetedDLR):
    """The targeted DLR, whose runs aim at the nearest classes of the linearized model.

    Among the most likely wrong classes on the clean image, the first run aims at the
    one with the smallest ratio of the logit margin to the norm of its gradient, the
    next run at the second: near the image networks are almost linear, and this ratio is
    then the distance to the class (Melamed et al. 2024, "MALT powers up adversarial
    attacks", NeurIPS; there in l2, here in the norm of the attack).

    Args:
        classes: Integer of at least 1. Target classes; at most all wrong ones.
        candidates: Integer of at least 1. The most likely wrong classes that are
            ranked; each takes a backward pass in each run.
        norm: "linf", "l2" or "l1", in which distances are measured.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> loss = keras_advdef.attacks._nearest_dlr.NearestDLR(1)
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(
    ...     lambda x: x @ tf.constant([[1.0, 0.5, 0.0]]) + [0.0, 0.0, 0.1])
    >>> loss.prepare(logits_fn, tf.constant([[0.5]]), tf.constant([0]), 0).numpy()
    array([2], dtype=int32)
    """

    def __init__(
        self, classes: int = 9, *, candidates: int = 9, norm: str = "linf"
    ) -> None:
        super().__init__(classes)
        owner = "NearestDLR"
        self.candidates = checked_integer(owner, "candidates", candidates, low=1)
        self.norm = checked_choice(owner, "norm", norm, NORMS)

    def targets(self, classes: int) -> int:
        """Returns the number of target classes, below the number of classes."""
        return min(super().targets(classes), self.candidates)

    def backward_looks(self, classes: int) -> int:
        """Returns the backward passes of one ranking; see `AttackLoss`."""
        return min(self.candidates, classes - 1)

    def prepare(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        run: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the class that a run aims at, `(batch,)`."""
        ranked: list[tf.Tensor] = []

        def ahead(points: tf.Tensor) -> tf.Tensor:
            logits = logits_fn(points)
            ranked.append(most_likely_wrong(logits, labels, self.candidates))
            return class_margins(logits, labels, ranked[0])

        margins, gradients = slopes(ahead, images, scale=logits_fn.gradient_scale)
        pairs = zip(tf.unstack(margins, axis=1), gradients, strict=True)
        distances = [plane_distance(*pair, self.norm) for pair in pairs]
        order = tf.argsort(tf.stack(distances, axis=1), axis=1, stable=True)
        rank = tf.broadcast_to(
            run % min(self.classes, order.shape[1]), tf.shape(labels)
        )
        place = tf.gather(order, rank, batch_dims=1)
        return tf.gather(ranked[0], place, batch_dims=1)

    def get_config(self) -> dict[str, Any]:
        return {
            "classes": self.classes,
            "candidates": self.candidates,
            "norm": self.norm,
        }
