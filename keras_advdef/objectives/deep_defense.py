"""DeepDefense: enlarges the perturbations that DeepFool finds."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_integer, checked_number
from keras_advdef.core.gradients import jacobian
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import most_likely_wrong
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.penalty import Penalty

_OVERSHOOT = 0.02
_LEAST_SHARE, _LEAST_LENGTH = 1e-6, 1e-10
# Otherwise images that never reach their label would outweigh all others.
_LARGEST_RATIO = 2.0


@defence(
    DefenceCard(
        summary="Makes DeepFool's perturbations larger, by training through DeepFool.",
        category="robust training",
        paper="Yan, Guo, Zhang: Deep Defense: Training DNNs with Improved Adversarial "
        "Robustness, NeurIPS 2018",
        claim="DeepFool's perturbations about twice as large on MNIST, with slightly "
        "higher accuracy; measured with DeepFool and FGSM.",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="steps times one backward pass per class, eleven at most, and "
        "one pass through them all",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class DeepDefense(Penalty):
    """Adds `exp(-c r)` for correctly classified images and `exp(d r)` for the others.

    `r` is `||Delta|| / ||x||`, and Delta the perturbation that DeepFool finds in a few
    steps: away from the label where the model is right, towards it where the model is
    wrong. The gradient passes through every step to the weights; which class is nearest
    and when to stop are constants. As in the authors' code, nothing is clipped and
    Delta is 1.02 times the sum of the steps.

    Fine-tune a trained model: with random weights all images are wrong. The paper's
    baseline, training on DeepFool's images, is adversarial training.

    Args:
        weight: Number of at least 0, the paper's lambda.
        correct_scale: Number above 0, the paper's c.
        wrong_scale: Number above 0, the paper's d.
        steps: Integer of at least 1. Steps of DeepFool.
        candidates: Integer of at least 1. Wrong classes that a step chooses from, the
            most likely ones at its start; each costs a backward pass.
        norm: "l2" or "linf".

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> penalty = keras_advdef.objectives.DeepDefense(steps=3)
    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, penalties=[penalty])
    >>> penalty(model, tf.ones((2, 4, 4, 1)), tf.constant([0, 1])).shape
    TensorShape([2])
    """

    def __init__(
        self,
        *,
        weight: float = 15.0,
        correct_scale: float = 25.0,
        wrong_scale: float = 5.0,
        steps: int = 5,
        candidates: int = 10,
        norm: str = "l2",
    ) -> None:
        super().__init__(weight=weight)
        owner = type(self).__name__
        self.correct_scale, self.wrong_scale = (
            checked_number(owner, name, value, low=0.0, low_open=True)
            for name, value in (
                ("correct_scale", correct_scale),
                ("wrong_scale", wrong_scale),
            )
        )
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.candidates = checked_integer(owner, "candidates", candidates, low=1)
        self.norm = checked_choice(owner, "norm", norm, ("l2", "linf"))

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
            labels: True labels, integer or one-hot.
        """
        ratio, is_right = self.ratios(model.classifier, images, labels)
        exponent = tf.where(
            is_right,
            -self.correct_scale * ratio,
            self.wrong_scale * tf.minimum(ratio, _LARGEST_RATIO),
        )
        return self.weight * tf.exp(exponent)

    def ratios(
        self, classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the relative norm of each perturbation, and which images are right.

        Args:
            classifier: The model.
            images: Clean images.
            labels: True labels, integer or one-hot.

        Returns:
            Float32 and boolean tensors of shape `(batch,)`.
        """
        images = tf.cast(images, tf.float32)
        labels = sparse_labels(labels)
        logits_fn = LogitsFunction(classifier)
        is_right = _predictions(logits_fn(images)) == labels
        perturbation = self._perturbation(logits_fn, images, labels, is_right)
        length = tf.math.divide_no_nan(self._length(perturbation), self._length(images))
        return length, is_right

    def _perturbation(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        is_right: tf.Tensor,
    ) -> tf.Tensor:
        """Returns DeepFool's perturbations, as functions of the weights."""
        base = tf.where(is_right, 0, 1)

        def ranked(points: tf.Tensor) -> tf.Tensor:
            """Returns the logits of the label and of the most likely wrong classes."""
            logits = logits_fn(points)
            likely = most_likely_wrong(logits, labels, self.candidates)
            classes = tf.concat([labels[:, None], likely], axis=1)
            chosen = tf.one_hot(classes, logits.shape[1])
            return tf.reduce_sum(chosen * logits[:, None], axis=-1)

        def body(
            index: tf.Tensor, state: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            del index
            total, active = state
            logits, slopes = jacobian(ranked, images + total)
            is_label = tf.range(logits.shape[1])[None] == 0
            goals = tf.where(is_right[:, None], ~is_label, is_label)
            step = self._step(logits, slopes, base=base, goals=goals)
            total += tf.where(per_image(active, images), step, 0.0)
            there = _predictions(logits_fn(images + (1.0 + _OVERSHOOT) * total))
            return total, active & ((there == labels) == is_right)

        active = tf.ones_like(is_right)
        total, _ = fixed_loop(body, (tf.zeros_like(images), active), self.steps)
        return (1.0 + _OVERSHOOT) * total

    def _step(
        self,
        logits: tf.Tensor,
        slopes: tf.Tensor,
        *,
        base: tf.Tensor,
        goals: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the step to the nearest boundary of the linearised model.

        Args:
            logits: Tensor `(batch, count)`.
            slopes: Their gradients, `(batch, count, ...)`.
            base: Which of them to leave, `(batch,)`.
            goals: Which of them may be reached, `(batch, count)`.
        """
        gaps = tf.abs(logits - tf.gather(logits, base[:, None], batch_dims=1))
        slopes -= tf.gather(slopes, base[:, None], batch_dims=1)
        lengths = self._dual_length(slopes)
        # A gradient that is nearly zero, in itself or next to the others, leads
        # nowhere, and its derivatives overflow.
        least = _LEAST_SHARE * tf.reduce_max(lengths, axis=1, keepdims=True)
        usable = goals & (lengths > tf.maximum(least, _LEAST_LENGTH))
        lengths = tf.where(usable, lengths, 1.0)
        distances = gaps / lengths
        nearest = tf.argmin(tf.where(usable, distances, tf.float32.max), axis=1)
        length = tf.gather(tf.where(usable, distances, 0.0), nearest, batch_dims=1)
        slope = tf.gather(slopes, nearest, batch_dims=1)
        if self.norm == "linf":
            return per_image(length, slope) * tf.sign(slope)
        size = tf.gather(lengths, nearest, batch_dims=1)
        return per_image(length / size, slope) * slope

    def _length(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the norm of each image, whose derivative is finite at zero."""
        axes = list(range(1, values.shape.rank))
        if self.norm == "linf":
            return tf.reduce_max(tf.abs(values), axes)
        return _root(tf.reduce_sum(tf.square(values), axes))

    def _dual_length(self, slopes: tf.Tensor) -> tf.Tensor:
        axes = list(range(2, slopes.shape.rank))
        if self.norm == "linf":
            return tf.reduce_sum(tf.abs(slopes), axes)
        return _root(tf.reduce_sum(tf.square(slopes), axes))

    def get_config(self) -> dict[str, Any]:
        names = ("correct_scale", "wrong_scale", "steps", "candidates", "norm")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
        }


def _predictions(logits: tf.Tensor) -> tf.Tensor:
    return tf.argmax(logits, axis=-1)


def _root(squares: tf.Tensor) -> tf.Tensor:
    return tf.where(squares > 0, tf.sqrt(tf.where(squares > 0, squares, 1.0)), 0.0)
