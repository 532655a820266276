"""Penalty: what a regulariser adds to an objective."""

from typing import Any

import tensorflow as tf

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope


class Penalty:
    """Base of what is added to an objective, one number per image, weight included.

    A subclass writes `__call__`, runs the classifier with `training=False` and makes
    sure that its value has a gradient with respect to the weights.

    Args:
        weight: Number of at least 0 that the subclass multiplies its value with.

    Raises:
        ValueError: If `weight` is negative.

    Example:

    >>> class LogitSize(keras_advdef.objectives.Penalty):
    ...     def __call__(self, model, images, labels):
    ...         logits = model.classifier(images, training=False)
    ...         return self.weight * tf.reduce_sum(logits**2, axis=-1)
    >>> LogitSize(weight=0.1).get_config()
    {'weight': 0.1}
    """

    def __init__(self, *, weight: float) -> None:
        self.weight = checked_number(type(self).__name__, "weight", weight, low=0.0)

    def __call__(self, model: Any, images: Any, labels: Any) -> tf.Tensor:
        """Returns the penalty of each image, shape `(batch,)`.

        Args:
            model: The training model.
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


def checked_gradient(penalty: Penalty, model: Any, images: Any, labels: Any) -> None:
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
