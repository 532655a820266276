"""CrossLipschitz: keeps the differences of the logits' slopes small."""

from typing import Any

import keras
import numpy as np
import scipy.linalg
import tensorflow as tf

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import scope_key
from keras_advdef.core.slope_derivatives import Logits, through_slopes
from keras_advdef.objectives.penalty import Penalty


@defence(
    DefenceCard(
        summary="Penalises differences between the slopes of the logits.",
        category="robust training",
        paper="Hein, Andriushchenko: Formal Guarantees on the Robustness of a "
        "Classifier against Adversarial Manipulation, NIPS 2017",
        claim="Certified and adversarial l2 norms above those of weight decay and "
        "dropout, with no or small loss of accuracy.",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="one backward pass for each class but one, or for each "
        "projection, and one through them",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class CrossLipschitz(Penalty):
    """Adds `weight / K^2 * sum over l, m of ||grad f_l(x) - grad f_m(x)||^2`.

    `f` are the K logits, gradients are with respect to the image, in its own units.
    The sum is `2 K` times that of the squared slopes about their mean, which has
    `K - 1` directions: one backward pass for each. `projections` estimates it without
    bias from the slopes of so many random mixtures of the logits, for models of many
    classes.

    ReLU has no second derivative: weights learn of the penalty through the slopes they
    multiply, not through where units switch. The authors use a steep softplus. Do not
    use it with batches mixed by the model; it is run with `training=False`.

    Args:
        weight: Number of at least 0. The authors' values lie around 1e-4 to 0.1.
        projections: Integer of at least 1, or `None` for the exact sum.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> penalty = keras_advdef.objectives.CrossLipschitz(weight=1e-2)
    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, penalties=[penalty])
    >>> penalty(model, tf.zeros((2, 4, 4, 1)), None).shape
    TensorShape([2])
    """

    def __init__(self, *, weight: float, projections: int | None = None) -> None:
        super().__init__(weight=weight)
        if projections is not None:
            owner = type(self).__name__
            projections = checked_integer(owner, "projections", projections, low=1)
        self.projections = projections

    def __call__(self, model: Any, images: Any, labels: Any) -> tf.Tensor:
        """Returns the penalty of each image, shape `(batch,)`.

        Args:
            model: The training model.
            images: Clean images.
            labels: Not used.
        """
        del labels
        images = tf.cast(images, tf.float32)

        def summed_squares(logits_fn: Logits) -> tf.Tensor:
            with tf.GradientTape(True, watch_accessed_variables=False) as tape:
                tape.watch(images)
                logits = logits_fn(images)
                mixtures = self._mixtures(logits)
            total = tf.zeros(tf.shape(images)[:1])
            for each in mixtures:
                slope = tape.gradient(each, images, unconnected_gradients="zero")
                total += _squares(slope)
            return total / logits.shape[-1]

        squares = through_slopes(model.classifier, summed_squares)
        return (2.0 * self.weight / (self.projections or 1)) * squares

    def _mixtures(self, logits: tf.Tensor) -> list[tf.Tensor]:
        """Returns sums over the batch of mixtures of the logits.

        Their slopes' squares add up to those of the logits' slopes about their mean,
        or estimate that so many times over.
        """
        classes = logits.shape[-1]
        if self.projections is None:
            return tf.unstack(tf.reduce_sum(logits @ _contrasts(classes), axis=0))
        key = scope_key()
        key = make_key() if key is None else key
        shape = [self.projections, tf.shape(logits)[0], classes]
        draws = tf.reshape(normal(key, shape), shape)
        draws -= tf.reduce_mean(draws, axis=-1, keepdims=True)
        return tf.unstack(tf.reduce_sum(draws * logits, axis=[1, 2]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projections": self.projections}


def _squares(slopes: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares for each image."""
    return tf.reduce_sum(tf.square(slopes), axis=list(range(1, slopes.shape.rank)))


def _contrasts(classes: int) -> np.ndarray:
    """Returns an orthonormal basis of what is left without the mean, as columns."""
    return scipy.linalg.helmert(classes).T.astype("float32")
