"""Objective: what a training step minimises."""

from typing import Any, ClassVar

import tensorflow as tf

from keras_advdef.core.trained_classifier import TrainedClassifier


class Objective:
    """Base of what a training step minimises, one number per image.

    A subclass writes `__call__`. It may state what its inner attack maximises and where
    that starts; the training model sets both on the attack. `None` leaves them to the
    attack. With `needs_attack = True` there is no training without one.

    Example:

    >>> class SmallLogits(keras_advdef.objectives.Objective):
    ...     def __call__(self, model, images, labels, adversarial):
    ...         outputs = model(adversarial, training=True)
    ...         size = tf.reduce_mean(model.logits_of(outputs)**2, axis=-1)
    ...         losses = model.example_losses(labels, outputs)
    ...         return losses + 0.1 * size, None, outputs
    >>> SmallLogits().inner_loss is None
    True
    """

    # Whether the training model refuses to do without an attack.
    needs_attack: bool = False
    # What the inner attack maximises: a name or an `AttackLoss`.
    inner_loss: ClassVar[Any] = None
    # Where the inner attack starts: a `random_start` of the attacks.
    inner_start: ClassVar[Any] = None

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each image and what the classifier returned.

        Args:
            model: The training model, or what stands for it in a step.
                `model(images, training=True)` runs the classifier,
                `model.logits_of(outputs)` turns its outputs into logits whatever head
                it has, and `model.example_losses(labels, outputs)` is the compiled loss
                per image, or a scalar if it is a function that returns one number for a
                batch.
            images: Clean images.
            labels: Labels as the user passed them to `fit`.
            adversarial: Adversarial images, constants; equal to `images` without an
                attack.

        Returns:
            Losses of shape `(batch,)`, or a scalar as above; the classifier's outputs
            for the clean images or `None`; its outputs for the adversarial images or
            `None`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `__call__`.")

    def scheduled(self) -> dict[str, float]:
        """Returns numbers that callbacks may move, with their first values.

        The training model keeps each as a saved weight of this name, which the
        objective reads as an attribute of `model`.
        """
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        """Returns an objective made from `get_config`."""
        return cls(**config)
