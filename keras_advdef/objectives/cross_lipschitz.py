"""CrossLipschitz: keeps the differences of the logits' slopes small."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.gradients import jacobian
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import scope_key
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
        training_cost="one backward pass per class, or per projection, and one through "
        "them",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class CrossLipschitz(Penalty):
    """Adds `weight / K^2 * sum over l, m of ||grad f_l(x) - grad f_m(x)||^2`.

    `f` are the K logits, gradients are with respect to the image, in its own units.
    The sum is `2 K sum ||grad f_l||^2 - 2 ||sum grad f_l||^2`, which takes one
    backward pass for each class. `projections` estimates it without bias from the
    slopes of so many random mixtures of the logits, for models of many classes.

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
        logits_fn = LogitsFunction(model.classifier)
        if self.projections is None:
            _, slopes = jacobian(logits_fn, images)
            classes = slopes.shape[1]
            centred = slopes - tf.reduce_mean(slopes, axis=1, keepdims=True)
            squares = _squares(centred)
        else:
            classes, squares = self._projected(logits_fn, images)
        return (2.0 * self.weight / classes) * squares

    def _projected(
        self, logits_fn: LogitsFunction, images: tf.Tensor
    ) -> tuple[int, tf.Tensor]:
        """Returns the number of classes and estimates of the summed squares."""
        key = scope_key()
        key = make_key() if key is None else key
        squares, count = 0.0, self.projections or 1

        def mixture(inputs: tf.Tensor) -> tuple[tf.Tensor, int]:
            logits = logits_fn(inputs)
            classes = logits.shape[-1]
            shape = [count, tf.shape(inputs)[0], classes]
            draws = tf.reshape(normal(key, shape), shape)
            draws -= tf.reduce_mean(draws, axis=-1, keepdims=True)
            return tf.reduce_sum(draws * logits, axis=-1), classes

        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            values, classes = mixture(images)
            sums = [tf.reduce_sum(each) for each in tf.unstack(values, num=count)]
        for each in sums:
            slope = tape.gradient(each, images, unconnected_gradients="zero")
            squares += _squares(slope)
        return classes, squares / count

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projections": self.projections}


def _squares(slopes: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares for each image."""
    return tf.reduce_sum(tf.square(slopes), axis=list(range(1, slopes.shape.rank)))
