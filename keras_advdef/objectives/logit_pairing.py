"""LogitPairing: adversarial training that keeps logits where they were."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_number
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Trains on clean and adversarial images alike, and for the same logits "
        "on both.",
        category="robust training",
        paper="Kannan, Kurakin, Goodfellow: Adversarial Logit Pairing, arXiv "
        "1803.06373, 2018",
        claim="27.9 % accuracy on ImageNet at linf 16/255 under targeted PGD, where "
        "plain adversarial training had 1.5 %.",
        standing="broken",
        breaks=(
            Break(
                attack="targeted PGD with 1000 steps",
                result="0.6 % left of 27.9 % on ImageNet: the loss is so rough that "
                "short attacks do not converge",
                source="Engstrom, Ilyas, Athalye, arXiv 1807.10272, 2018",
            ),
        ),
        attacks=("AutoAttack", "PGD-200"),
        training_cost="one forward and backward pass per attack step, and one of clean "
        "images",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class LogitPairing(Objective):
    """`(loss(clean) + loss(adversarial)) / 2 + weight * mean((z(clean) - z(adv))**2)`.

    `loss` is the compiled loss and `z` are the logits, whose squared differences are
    averaged over the classes. Clean and adversarial images pass apart, so
    BatchNormalization sees two batches; the authors' code joins them.

    Args:
        weight: Number of at least 0; lambda in the paper. At 0 it is
            `AdversarialCrossEntropy(0.5)`.

    Raises:
        ValueError: If `weight` is negative, or from the training model if there is no
            attack.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, keras_advdef.attacks.PGD(0.1, steps=2),
    ...     keras_advdef.objectives.LogitPairing(weight=0.5))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'clean_accuracy', 'loss']
    """

    needs_attack = True

    def __init__(self, *, weight: float = 0.5) -> None:
        self.weight = checked_number("LogitPairing", "weight", weight, low=0.0)

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each image and both outputs of the classifier."""
        clean = model(images, training=True)
        outputs = model(adversarial, training=True)
        gaps = model.logits_of(clean) - model.logits_of(outputs)
        losses = model.example_losses(labels, clean)
        losses = 0.5 * (losses + model.example_losses(labels, outputs))
        return losses + self.weight * tf.reduce_mean(gaps**2, axis=-1), clean, outputs

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight}
