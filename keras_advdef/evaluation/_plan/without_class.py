"""WithoutClass: the cross-entropy of all classes but one."""

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.logits_loss import LogitsLoss


@keras.saving.register_keras_serializable(package="keras_advdef")
class WithoutClass(LogitsLoss):
    """Maximises the cross-entropy of the last class's rivals, as if it were not there.

    An attack on it moves images towards the other classes. If they still arrive in the
    last one, that is not a class among others.

    Example:

    >>> from keras_advdef.evaluation._plan.without_class import WithoutClass
    >>> loss = WithoutClass()
    >>> logits = tf.constant([[0.0, 0.0, 9.0]])
    >>> loss.from_logits(logits, tf.constant([0]), None).numpy().round(3)
    array([0.693], dtype=float32)
    """

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the cross-entropy of each image, shape `(batch,)`."""
        del reference
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits[:, :-1])
