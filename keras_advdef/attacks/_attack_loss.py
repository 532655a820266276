"""The attack losses that have a name."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.attacks.losses.classification_loss import ClassificationLoss
from keras_advdef.attacks.losses.kl_to_clean import KLToClean
from keras_advdef.attacks.losses.logits_loss import LogitsLoss
from keras_advdef.attacks.losses.targeted_dlr import TargetedDLR
from keras_advdef.core.errors import invalid
from keras_advdef.losses.difference_of_logits_ratio import DifferenceOfLogitsRatio
from keras_advdef.losses.margin import Margin


class _CrossEntropy(LogitsLoss):
    """The cross-entropy of labels, or of rows of probabilities, to the logits."""

    takes_rows = True

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the cross-entropy of each image, shape `(batch,)`."""
        del reference
        if labels.shape.rank == 1:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


_LOSSES: dict[str, Callable[[], AttackLoss]] = {
    "cross_entropy": _CrossEntropy,
    "margin": lambda: ClassificationLoss(Margin()),
    "dlr": lambda: ClassificationLoss(DifferenceOfLogitsRatio()),
    "targeted_dlr": TargetedDLR,
    "kl": KLToClean,
}


def attack_loss(owner: str, loss: Any) -> AttackLoss:
    """Returns the attack loss for a name, or the one that was passed.

    Args:
        owner: Name of the attack that takes the argument.
        loss: "cross_entropy", "margin", "dlr", "targeted_dlr", "kl" or an `AttackLoss`.

    Returns:
        An `AttackLoss`.

    Raises:
        ValueError: If it is neither.

    Example:

    >>> from keras_advdef.attacks._attack_loss import attack_loss
    >>> type(attack_loss("PGD", "kl")).__name__
    'KLToClean'
    """
    if isinstance(loss, AttackLoss):
        return loss
    if isinstance(loss, str) and loss in _LOSSES:
        return _LOSSES[loss]()
    names = ", ".join(repr(name) for name in _LOSSES)
    raise invalid(owner, "loss", f"one of {names} or an `AttackLoss`", loss)
