"""Consistency: training on noise, with the same prediction for every draw."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.divergence import kl_divergence
from keras_advdef.core.errors import checked_integer, checked_number
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.objective import Objective


@defence(
    DefenceCard(
        summary="Trains on noise, and for the same prediction under every draw of it.",
        category="robust training",
        paper="Jeong, Shin: Consistency Regularization for Certified Robustness of "
        "Smoothed Classifiers, NeurIPS 2020",
        claim="A larger mean certified l2 radius of the smoothed classifier on MNIST, "
        "CIFAR-10 and ImageNet than training on noise alone.",
        standing="standing",
        attacks=("PGD", "APGD"),
        training_cost="one forward and backward pass per draw",
        inference_cost="none; that of `models.SmoothedClassifier` where it votes",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class Consistency(Objective):
    """`mean(loss(draw)) + weight * mean(KL(p || p(draw))) + entropy_weight * H(p)`.

    Each draw is a pass of the image through the classifier, whose noise comes from a
    `layers.RandomNoise` at its start, active in training or always. `p` is the mean
    prediction over the draws and `H` its entropy in nats. `loss` is the compiled loss.
    Certify the classifier with `models.SmoothedClassifier` of the same `stddev`.

    Training on noise alone (Cohen et al. 2019) needs no objective: compile and fit
    `keras.Sequential([RandomNoise(stddev), classifier])`. Here, that is `weight=0.0`
    and `entropy_weight=0.0`, over `draws` passes.

    Args:
        draws: Integer of at least 2. Passes of each image.
        weight: Number of at least 0; lambda in the paper. More of it gives up clean
            accuracy for larger radii.
        entropy_weight: Number of at least 0; eta in the paper.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> noise = keras_advdef.layers.RandomNoise(0.25)
    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     keras.Sequential([noise, classifier]),
    ...     objective=keras_advdef.objectives.Consistency(weight=10.0))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> smoothed = keras_advdef.models.SmoothedClassifier(classifier, stddev=0.25)
    """

    def __init__(
        self, *, draws: int = 2, weight: float = 10.0, entropy_weight: float = 0.5
    ) -> None:
        owner = "Consistency"
        self.draws = checked_integer(owner, "draws", draws, low=2)
        self.weight = checked_number(owner, "weight", weight, low=0.0)
        self.entropy_weight = checked_number(
            owner, "entropy_weight", entropy_weight, low=0.0
        )

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each image, the outputs of the first draw, and `None`."""
        del adversarial
        outputs = [model(images, training=True) for _ in range(self.draws)]
        logits = [model.logits_of(each) for each in outputs]
        # In log space, so that nothing is clipped where the model is sure.
        rows = tf.stack([tf.nn.log_softmax(each) for each in logits])
        mean = tf.reduce_logsumexp(rows, axis=0) - tf.math.log(
            tf.cast(self.draws, rows.dtype)
        )
        apart = [kl_divergence(mean, each) for each in logits]
        entropy = -tf.reduce_sum(tf.exp(mean) * mean, axis=-1)
        losses = [model.example_losses(labels, each) for each in outputs]
        total = tf.add_n(losses) + self.weight * tf.add_n(apart)
        return total / self.draws + self.entropy_weight * entropy, outputs[0], None

    def get_config(self) -> dict[str, Any]:
        return {
            "draws": self.draws,
            "weight": self.weight,
            "entropy_weight": self.entropy_weight,
        }
