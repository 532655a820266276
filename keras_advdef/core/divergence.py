"""Divergence between two predictions."""

from collections.abc import Callable

import tensorflow as tf


def kl_divergence(log_probabilities: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns KL(p || softmax(logits)) of each image, in nats.

    In log space, so that nothing is clipped where a model is sure. Gradients flow
    through both arguments. That of the logits is the difference of the probabilities,
    and nothing but zero where both predictions are the same: of a rounding error in
    place of it, attacks would follow the sign.

    Args:
        log_probabilities: Logarithm of p, `(batch, classes)`.
        logits: Logits of the same shape.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> from keras_advdef.core.divergence import kl_divergence
    >>> wanted = tf.nn.log_softmax([[2.0, 1.0, 0.0, -1.0]])
    >>> round(float(kl_divergence(wanted, tf.constant([[0.5, 1.5, 0.0, -1.0]]))[0]), 6)
    0.421915
    """
    return _kl_divergence(log_probabilities, logits)


@tf.custom_gradient
def _kl_divergence(
    log_probabilities: tf.Tensor, logits: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    probabilities, found = tf.exp(log_probabilities), tf.nn.log_softmax(logits)
    gaps = log_probabilities - found

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        upstream = upstream[..., tf.newaxis]
        towards = upstream * (tf.exp(found) - probabilities)
        return upstream * probabilities * (gaps + 1.0), towards

    return tf.reduce_sum(probabilities * gaps, axis=-1), gradient
