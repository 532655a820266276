"""MemberDLR: the loss of an attacker who knows each member of an ensemble."""

import keras
import tensorflow as tf

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.losses.difference_of_logits_ratio import DifferenceOfLogitsRatio


@keras.saving.register_keras_serializable(package="keras_advdef")
class MemberDLR(AttackLoss):
    """Mean over an ensemble's members of their difference of logits ratio.

    The mean probability of an ensemble saturates where its members are certain, and its
    gradient then follows the least certain one alone. Each member's own ratio (Croce
    and Hein 2020) keeps its gradient, whatever the scale of its logits. Tramèr,
    Carlini, Brendel and Mądry 2020 attack ensembles this way ("On adaptive attacks to
    adversarial example defenses").

    With a single member, it is the DLR loss.

    Example:

    >>> def member():
    ...     return keras.Sequential([
    ...         keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    >>> ensemble = keras_advdef.models.AveragingEnsemble([member(), member()])
    >>> attack = keras_advdef.attacks.PGD(
    ...     0.1, steps=3, loss=keras_advdef.attacks.losses.MemberDLR())
    >>> images = np.full((2, 4, 4, 1), 0.5, "float32")
    >>> attack.generate(ensemble, images, np.array([0, 1]), verbose=0).shape
    (2, 4, 4, 1)
    """

    supports_targets = False

    def __call__(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the loss of each image, float32 of shape `(batch,)`."""
        del reference
        members = logits_fn.member_logits(images)
        _, count, classes = members.shape
        flat = tf.reshape(members, [-1, classes])
        ratios = DifferenceOfLogitsRatio().call(tf.repeat(labels, count), flat)
        return tf.reduce_mean(tf.reshape(ratios, [-1, count]), axis=1)
