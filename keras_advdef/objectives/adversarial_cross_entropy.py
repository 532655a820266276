"""AdversarialCrossEntropy: adversarial training, with or without a clean term."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_number
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Trains on adversarial images crafted against the current model.",
        category="robust training",
        paper="Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models "
        "Resistant to Adversarial Attacks, ICLR 2018; Goodfellow, Shlens, Szegedy: "
        "Explaining and Harnessing Adversarial Examples, ICLR 2015",
        claim="Under PGD, 89 % accuracy on MNIST at linf 0.3 and 46 % on CIFAR-10 at "
        "linf 8/255; under AutoAttack, 88.5 % and 44.0 % (Croce, Hein 2020).",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="one forward and backward pass per attack step",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class AdversarialCrossEntropy(Objective):
    """`a * loss(clean) + (1 - a) * loss(adversarial)` with `a = clean_weight`.

    At 0 this is Madry's adversarial training, which has no clean term; at 0.5 it is
    Goodfellow's mix.

    Args:
        clean_weight: Number in `[0, 1]`.

    Raises:
        ValueError: If `clean_weight` is outside `[0, 1]`.

    Example:

    >>> keras_advdef.objectives.AdversarialCrossEntropy(clean_weight=0.5).clean_weight
    0.5
    """

    def __init__(self, clean_weight: float = 0.0) -> None:
        owner = "AdversarialCrossEntropy"
        self.clean_weight = checked_number(
            owner, "clean_weight", clean_weight, low=0.0, high=1.0
        )

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the mixed loss of each image and the outputs it was made of."""
        clean = None
        losses = 0.0
        if self.clean_weight > 0.0:
            clean = model(images, training=True)
            losses = self.clean_weight * model.example_losses(labels, clean)
        outputs = model(adversarial, training=True)
        share = 1.0 - self.clean_weight
        return losses + share * model.example_losses(labels, outputs), clean, outputs

    def get_config(self) -> dict[str, Any]:
        return {"clean_weight": self.clean_weight}
