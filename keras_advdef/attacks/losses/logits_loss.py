"""LogitsLoss: base of the attack losses that need the logits only."""

import tensorflow as tf

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.core.logits import LogitsFunction


class LogitsLoss(AttackLoss):
    """Base of attack losses that are functions of the logits.

    A subclass writes `from_logits`; loss and success then share one forward pass.

    Example:

    >>> class Confidence(keras_advdef.attacks.losses.LogitsLoss):
    ...     def from_logits(self, logits, labels, reference):
    ...         return -tf.reduce_max(logits, axis=-1)
    >>> Confidence()(lambda images: 2.0 * images, tf.ones((1, 3)), None).numpy()
    array([-2.], dtype=float32)
    """

    forward_passes = 1

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns losses of shape `(batch,)` for logits of shape `(batch, classes)`."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `from_logits`.")

    def __call__(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the loss of each image, float32 of shape `(batch,)`."""
        return self.from_logits(logits_fn(images), labels, reference)

    def with_logits(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses and the logits they were computed from."""
        logits = logits_fn(images)
        return self.from_logits(logits, labels, reference), logits
