"""TRADES: accuracy on clean images, and predictions that attacks leave alone."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.divergence import kl_divergence
from keras_advdef.core.errors import checked_number
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Trains for clean accuracy and for predictions that attacks leave "
        "alone.",
        category="robust training",
        paper="Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan: Theoretically Principled "
        "Trade-off between Robustness and Accuracy, ICML 2019",
        claim="Under PGD, 96.1 % accuracy on MNIST at linf 0.3 and 56.6 % on CIFAR-10 "
        "at linf 0.031; under AutoAttack, 92.8 % and 53.1 % (Croce, Hein 2020).",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="one forward and backward pass per attack step, and one of clean "
        "images",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class TRADES(Objective):
    """`loss(clean) + beta * KL(p(clean) || p(adversarial))`.

    The attack maximises the same divergence, whatever the labels, from a start of 0.001
    normal noise: at the image itself the divergence has no gradient. `loss` is the
    compiled loss, so soft labels and label smoothing count as usual. Gradients flow
    through both predictions. The authors train with ten steps (forty on MNIST) of `PGD`
    with `return_best=False`.

    Args:
        beta: Number of at least 0, `1 / lambda` in the paper. More of it gives up clean
            accuracy for robustness; 0 is plain training.

    Raises:
        ValueError: If `beta` is negative, or from the training model if there is no
            attack.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, keras_advdef.attacks.PGD(0.1, steps=2),
    ...     keras_advdef.objectives.TRADES(beta=6.0))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'clean_accuracy', 'loss']
    """

    needs_attack = True
    inner_loss: ClassVar[str] = "kl"
    inner_start: ClassVar[str] = "gaussian"

    def __init__(self, *, beta: float = 6.0) -> None:
        self.beta = checked_number("TRADES", "beta", beta, low=0.0)

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
        wanted = tf.nn.log_softmax(model.logits_of(clean))
        apart = kl_divergence(wanted, model.logits_of(outputs))
        losses = model.example_losses(labels, clean) + self.beta * apart
        return losses, clean, outputs

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta}
