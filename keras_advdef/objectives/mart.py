"""MART: adversarial training that looks harder at images it gets wrong."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.divergence import kl_divergence
from keras_advdef.core.errors import checked_number
from keras_advdef.core.labels import soft_labels
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Adversarial training that weighs images by how wrong the model is on "
        "the clean ones.",
        category="robust training",
        paper="Wang, Zou, Yi, Bailey, Ma, Gu: Improving Adversarial Robustness "
        "Requires Revisiting Misclassified Examples, ICLR 2020",
        claim="65.0 % accuracy on CIFAR-10 at linf 8/255 under PGD of 20 steps, with "
        "500 000 more unlabelled images.",
        standing="weakened",
        breaks=(
            Break(
                attack="AutoAttack",
                result="56.3 % of the 65.0 % are left: the net is fit to PGD on the "
                "cross-entropy",
                source="Croce, Hein, ICML 2020",
            ),
        ),
        attacks=("AutoAttack",),
        training_cost="one forward and backward pass per attack step, and one of clean "
        "images",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class MART(Objective):
    """`BCE(adversarial, y) + beta * (1 - p_y(clean)) * KL(p(clean) || p(adversarial))`.

    `BCE = -log p_y - log(1 - max of the other p)` also lowers the most likely wrong
    class. The attack maximises the cross-entropy, from a start of 0.001 normal noise.
    Gradients flow through the weight `1 - p_y(clean)` too, as in the authors' code.

    All is computed in log space and needs no stabilisers; those of the authors' code
    (`1.0001 - p` and `1.0000001 - p_y`) change the loss in its fourth digit, and bound
    what a confidently wrong prediction costs. With two classes, such as one sigmoid
    unit, BCE is `-2 log p_y`.

    The compiled loss is not trained on, only shown in validation. The loss of a row of
    probabilities (CutMix, MixUp) is the mean over its classes, each with its
    probability, which is what MixUp does with its loss.

    Args:
        beta: Number of at least 0, lambda in the paper.

    Raises:
        ValueError: If `beta` is negative, or from the training model if there is no
            attack.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, keras_advdef.attacks.PGD(0.1, steps=2),
    ...     keras_advdef.objectives.MART(beta=5.0))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'clean_accuracy', 'loss']
    """

    needs_attack = True
    inner_loss: ClassVar[str] = "cross_entropy"
    inner_start: ClassVar[str] = "gaussian"

    def __init__(self, *, beta: float = 5.0) -> None:
        self.beta = checked_number("MART", "beta", beta, low=0.0)

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
        found = model.logits_of(outputs)
        apart = self.beta * kl_divergence(wanted, found)[:, tf.newaxis]
        rows = soft_labels(labels)
        if rows.shape.rank == 1:
            rows = tf.one_hot(rows, found.shape[-1])
        of_classes = _boosted_cross_entropies(found) + apart * (1.0 - tf.exp(wanted))
        return tf.reduce_sum(rows * of_classes, axis=-1), clean, outputs

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta}


def _boosted_cross_entropies(logits: tf.Tensor) -> tf.Tensor:
    """Returns the boosted cross-entropy of each image for each class as its label.

    For `1 - p` of the likeliest class, the others are summed up: where the model is
    sure, subtracting would leave nothing of them.
    """
    logs = tf.nn.log_softmax(logits)
    is_first = tf.one_hot(tf.argmax(logs, -1), logs.shape[-1], True, False)
    others = tf.where(is_first, -np.inf, logs)
    without_first = tf.reduce_logsumexp(others, axis=-1, keepdims=True)
    second = tf.reduce_max(others, axis=-1, keepdims=True)
    without_second = tf.math.log1p(-tf.exp(second))
    # The likeliest class other than the label.
    rest = tf.where(is_first, without_second, without_first)
    return -logs - rest
