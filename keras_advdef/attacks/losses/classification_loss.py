"""ClassificationLoss: any Keras loss on logits as an attack loss."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.logits_loss import LogitsLoss
from keras_advdef.core.errors import checked_instance


@keras.saving.register_keras_serializable(package="keras_advdef")
class ClassificationLoss(LogitsLoss):
    """Maximises a Keras loss of integer labels and logits, per image.

    Args:
        loss: A `keras.losses.Loss` whose `call` takes integer labels and logits. Its
            reduction is not used.

    Raises:
        TypeError: If `loss` is not a `keras.losses.Loss`.

    Example:

    >>> loss = keras_advdef.attacks.losses.ClassificationLoss(
    ...     keras_advdef.losses.Margin())
    >>> loss.from_logits(tf.constant([[2.0, 1.0]]), tf.constant([0]), None).numpy()
    array([-1.], dtype=float32)
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        owner = "ClassificationLoss"
        self.loss = checked_instance(owner, "loss", loss, keras.losses.Loss)

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the Keras loss of each image, shape `(batch,)`."""
        del reference
        return self.loss.call(labels, logits)

    def get_config(self) -> dict[str, Any]:
        return {"loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClassificationLoss":
        """Returns a loss made from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["loss"]))
