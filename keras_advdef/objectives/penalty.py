"""Penalty: what a regulariser adds to an objective."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.trained_classifier import (
    TrainedClassifier,
    trained_classifier,
)


class Penalty:
    """Base of what is added to an objective, one number per image, weight included.

    A subclass writes `__call__`, runs the classifier with `training=False` and returns
    a value that has a gradient with respect to the weights. Called with a plain
    classifier, a penalty gives the same value as with a training model of it.

    Args:
        weight: Number of at least 0, by which the subclass multiplies its value.

    Raises:
        ValueError: If `weight` is negative.

    Example:

    >>> class LogitSize(keras_advdef.objectives.Penalty):
    ...     def __call__(self, model, images, labels):
    ...         logits = model.logits_of(model(images, training=False))
    ...         return self.weight * tf.reduce_sum(logits**2, axis=-1)
    >>> classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    >>> LogitSize(weight=0.5)(classifier, tf.ones((2, 4, 4, 1)), None).numpy().tolist()
    [8.0, 8.0]
    """

    def __init__(self, *, weight: float) -> None:
        self.weight = checked_number(type(self).__name__, "weight", weight, low=0.0)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = _of_any_model(cls.__call__)  # type: ignore[method-assign]

    def __call__(
        self,
        model: TrainedClassifier | keras.Model,
        images: tf.Tensor,
        labels: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the penalty of each image, shape `(batch,)`.

        Args:
            model: A training model or a plain classifier. A subclass always gets a
                model with `model.classifier`, `model(images, training=False)`, which
                runs it, and `model.logits_of(outputs)`, which turns its outputs into
                logits whatever head it has.
            images: Clean images.
            labels: Labels as the user passed them to `fit`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `__call__`.")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Penalty":
        """Returns a penalty made from `get_config`."""
        return cls(**config)


def _of_any_model(penalize: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Returns a penalty's `__call__` that takes plain classifiers too."""

    @functools.wraps(penalize)
    def called(
        self: Penalty,
        model: TrainedClassifier | keras.Model,
        images: tf.Tensor,
        labels: tf.Tensor,
    ) -> tf.Tensor:
        return penalize(self, trained_classifier(model, images), images, labels)

    return called


def checked_gradient(
    penalty: Penalty,
    model: TrainedClassifier | keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
) -> None:
    """Raises, while tracing, if a penalty could never change a weight.

    Args:
        penalty: The penalty.
        model: The training model.
        images: Clean images.
        labels: Labels as the user passed them to `fit`.

    Raises:
        ValueError: If it has no gradient with respect to any weight.
    """
    with draw_scope(make_key(0)), tf.GradientTape() as tape:
        value = tf.reduce_sum(penalty(model, images, labels))
    gradients = tape.gradient(value, model.trainable_weights)
    if all(gradient is None for gradient in gradients):
        rule = "made of penalties with a gradient with respect to the weights"
        advice = "Do not stop gradients or leave TensorFlow inside it."
        raise invalid(
            "AdversarialTrainingModel", "penalties", rule, penalty, advice=advice
        )
