"""AdaptiveDiversityPromoting: trains the members of an ensemble to err apart."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import wrong_type
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsModel
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.losses.adaptive_diversity import AdaptiveDiversity
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Trains an ensemble whose members spread their errors over different "
        "classes.",
        category="ensemble",
        paper="Pang, Xu, Du, Chen, Zhu: Improving Adversarial Robustness via Promoting "
        "Ensemble Diversity, ICML 2019",
        claim="Higher accuracy than a plain ensemble under attacks of ten steps, on "
        "MNIST and CIFAR-10, without loss on clean images.",
        standing="broken",
        breaks=(
            Break(
                attack="PGD with 200 steps, several restarts and a loss on the "
                "members' logits",
                result="removes most of the gain on CIFAR-10 at linf 0.01: the paper's "
                "short attack had not converged",
                source="Tramèr, Carlini, Brendel, Mądry 2020",
            ),
        ),
        attacks=("PGD-200", "MemberDLR"),
        training_cost="one pass per member",
        inference_cost="one pass per member",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class AdaptiveDiversityPromoting(Objective):
    """Sum of the members' cross-entropies, and the adaptive diversity regulariser.

    The classifier of the training model must be an `AveragingEnsemble`. Without an
    attack this is the paper's training. With one, the objectives of clean and
    adversarial images are added, as the authors do. The compiled loss is that of the
    ensemble's mean prediction, and only shown in validation.

    Args:
        entropy_weight: Number of at least 0, the paper's alpha.
        diversity_weight: Number of at least 0, the paper's beta.

    Raises:
        ValueError: If a weight is negative, or when training if there are more members
            than wrong classes.
        TypeError: When training, if the classifier is not a `LogitsModel`.

    Example:

    >>> def member():
    ...     return keras.Sequential([
    ...         keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    >>> ensemble = keras_advdef.models.AveragingEnsemble([member(), member()])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     ensemble, objective=keras_advdef.objectives.AdaptiveDiversityPromoting())
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    def __init__(
        self, *, entropy_weight: float = 2.0, diversity_weight: float = 0.5
    ) -> None:
        self._diversity = AdaptiveDiversity(
            entropy_weight=entropy_weight,
            diversity_weight=diversity_weight,
            from_logits=True,
        )
        self.entropy_weight = self._diversity.entropy_weight
        self.diversity_weight = self._diversity.diversity_weight

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each image and the ensemble's mean predictions."""
        if not isinstance(model.classifier, LogitsModel):
            rule = "an ensemble, such as `AveragingEnsemble`"
            owner = "AdaptiveDiversityPromoting"
            raise wrong_type(owner, "classifier", rule, model.classifier)
        losses, clean = self._losses(model.classifier, images, labels)
        if adversarial is images:
            return losses, clean, None
        attacked, outputs = self._losses(model.classifier, adversarial, labels)
        return losses + attacked, clean, outputs

    def _losses(
        self, ensemble: LogitsModel, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        members = ensemble.member_logits(images, training=True)
        members = tf.cast(members, tf.float32)
        wanted = tf.cast(sparse_labels(labels), tf.int32)
        entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.repeat(wanted[:, tf.newaxis], members.shape[1], axis=1), members
        )
        losses = tf.reduce_sum(entropies, axis=1)
        losses += self._diversity.call(wanted, members)
        return losses, tf.reduce_mean(tf.nn.softmax(members), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            "entropy_weight": self.entropy_weight,
            "diversity_weight": self.diversity_weight,
        }
