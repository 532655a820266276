"""CrossLipschitz: keeps the differences between the logits' gradients small."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import draw_scope, scope_key
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives._double_backward import Logits, double_backward
from keras_advdef.objectives.penalty import Penalty

# Mixtures of the logits that are differentiated in one pass: those of ten classes.
_AT_ONCE = 9


@defence(
    DefenceCard(
        summary="Penalises differences between the input gradients of the logits.",
        category="robust training",
        paper="Hein, Andriushchenko: Formal Guarantees on the Robustness of a "
        "Classifier against Adversarial Manipulation, NIPS 2017",
        claim="Certified radii and smallest adversarial l2 perturbations larger than "
        "with weight decay or dropout, with little or no loss of accuracy.",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="one backward pass per class except one, or per projection, and "
        "one pass through them all",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class CrossLipschitz(Penalty):
    """Adds `weight / K^2 * sum over l, m of ||grad f_l(x) - grad f_m(x)||^2`.

    `f` are the K logits; gradients are with respect to the image, in its own units. The
    sum is `2 K` times the squared deviation of the gradients from their mean, which has
    `K - 1` directions: one backward pass for each. For models of many classes,
    `projections` estimates it without bias from as many random mixtures of the logits.

    The second derivative of ReLU is zero: the penalty reaches the weights as factors of
    the gradients, not through which units are active. The authors use a steep
    softplus. The model runs with `training=False`, so do not combine the penalty with
    models that mix the images of a batch.

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

    def __call__(
        self,
        model: TrainedClassifier | keras.Model,
        images: tf.Tensor,
        labels: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the penalty of each image, shape `(batch,)`.

        Args:
            model: The training model.
            images: Clean images.
            labels: Not used.
        """
        del labels
        images = tf.cast(images, tf.float32)

        # A pass that must not draw.
        with draw_scope(make_key(0)):
            classes = LogitsFunction(model.classifier)(images).shape[-1]
        count = self.projections or classes - 1
        parts = math.ceil(count / _AT_ONCE)
        mixtures = self._mixtures(
            tf.shape(images)[0], classes, math.ceil(count / parts)
        )

        def summed_squares(logits_fn: Logits, part: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(True, watch_accessed_variables=False) as tape:
                tape.watch(images)
                mixed = tf.reduce_sum(mixtures(part) * logits_fn(images), [1, 2])
                sums = tf.unstack(mixed)
            slopes = [
                tape.gradient(each, images, unconnected_gradients="zero")
                for each in sums
            ]
            return tf.add_n([_squares(each) for each in slopes]) / classes

        start = tf.zeros(tf.shape(images)[:1])
        squares = double_backward(model.classifier, summed_squares, start, parts=parts)
        return (2.0 * self.weight / (self.projections or 1)) * squares

    def _mixtures(
        self, batch: tf.Tensor, classes: int, size: int
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function from a part's number to mixtures of logits.

        The squared gradients of all mixtures add up to the squared deviation of the
        logits' gradients from their mean, or to `projections` estimates of it.

        Args:
            batch: Number of images.
            classes: Number of logits.
            size: Mixtures in a part.

        Returns:
            The function; the shape of mixtures is `(size, batch or 1, classes)`.
        """
        if self.projections is None:
            return lambda part: _contrasts(part, size, classes)[:, None]
        key = scope_key()
        key = make_key() if key is None else key
        shape = [self.projections, batch, classes]
        draws = tf.reshape(normal(key, shape), shape)
        draws -= tf.reduce_mean(draws, axis=-1, keepdims=True)
        draws = tf.pad(draws, [[0, -self.projections % size], [0, 0], [0, 0]])
        return lambda part: tf.ensure_shape(
            draws[part * size : (part + 1) * size], [size, None, classes]
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projections": self.projections}


def _squares(slopes: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares for each image."""
    return tf.reduce_sum(tf.square(slopes), axis=list(range(1, slopes.shape.rank)))


def _contrasts(part: tf.Tensor, size: int, classes: int) -> tf.Tensor:
    """Returns rows of an orthonormal basis of the space without the mean (Helmert).

    Row i is 1 before place i and -i there, scaled. Rows after the last one are zero.
    """
    row = (tf.cast(part * size, tf.float32) + tf.range(1.0, size + 1.0))[:, None]
    place = tf.range(classes, dtype=tf.float32)
    values = tf.where(place < row, 1.0, tf.where(place == row, -row, 0.0))
    return tf.where(row < classes, values / tf.sqrt(row * (row + 1.0)), 0.0)
