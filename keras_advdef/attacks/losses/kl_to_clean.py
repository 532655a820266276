"""KLToClean: divergence from the prediction on the clean image."""

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.logits_loss import LogitsLoss
from keras_advdef.core.divergence import kl_divergence
from keras_advdef.core.logits import LogitsFunction


@keras.saving.register_keras_serializable(package="keras_advdef")
class KLToClean(LogitsLoss):
    """Maximises KL(p(clean) || p(adversarial)), the inner problem of TRADES.

    At the clean image the divergence and its gradient are zero, so an attack with this
    loss needs a random start. Both softmaxes are taken in log space (Zhang et al.
    2019).

    Example:

    >>> clean = tf.constant([[2.0, 1.0, 0.0, -1.0]])
    >>> other = tf.constant([[0.5, 1.5, 0.0, -1.0]])
    >>> kl = keras_advdef.attacks.losses.KLToClean()
    >>> round(float(kl.from_logits(other, None, tf.nn.log_softmax(clean))[0]), 6)
    0.421915
    """

    supports_targets = False
    looks_at_clean = True

    def reference(
        self, logits_fn: LogitsFunction, images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns the log-probabilities of the clean images, `(batch, classes)`."""
        del labels
        return tf.stop_gradient(tf.nn.log_softmax(logits_fn(images)))

    def from_logits(
        self, logits: tf.Tensor, labels: tf.Tensor, reference: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the divergence of each image in nats, shape `(batch,)`."""
        del labels
        return kl_divergence(reference, logits)
