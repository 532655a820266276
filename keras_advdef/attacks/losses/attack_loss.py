"""AttackLoss: what an attack maximises."""

from typing import Any

import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction


class AttackLoss:
    """Base of what an attack maximises: one number per image.

    A subclass writes `__call__`. It receives the logits function of the attacked model,
    whose `model` attribute is the model itself, so a loss can also use a detector's
    score or the members of an ensemble. Losses of the logits alone extend `LogitsLoss`,
    which saves one forward pass.

    Example:

    >>> class Brightness(keras_advdef.attacks.losses.AttackLoss):
    ...     def __call__(self, logits_fn, images, labels, reference=None):
    ...         return tf.reduce_mean(images, axis=(1, 2, 3))
    >>> Brightness()(None, tf.ones((2, 4, 4, 1)), None).numpy().tolist()
    [1.0, 1.0]
    """

    supports_targets = True
    # Whether each run of an attack aims at another class; see `targets`.
    aims = False
    # Whether labels may also be rows of probabilities, `(batch, classes)`.
    takes_rows = False
    # Forward passes for loss and logits of the same images.
    forward_passes = 2
    # Whether `prepare` takes a forward pass of the clean images.
    looks_at_clean = False

    def reference(
        self, logits_fn: LogitsFunction, images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns a tensor that stays fixed during an attack; none by default.

        Args:
            logits_fn: A `LogitsFunction`.
            images: Clean images of shape `(batch, rows, cols, channels)`.
            labels: Integer labels of shape `(batch,)`.

        Returns:
            A tensor with the batch as its first axis, or `None`.
        """
        del logits_fn, images, labels
        return None

    def targets(self, classes: int) -> int:
        """Returns how many target classes the loss has; each gets a run.

        Args:
            classes: Number of classes of the model.
        """
        del classes
        return 1

    def backward_looks(self, classes: int) -> int:
        """Returns the backward passes that `prepare` takes, none by default.

        Args:
            classes: Number of classes of the model.
        """
        del classes
        return 0

    def prepare(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        run: tf.Tensor,
    ) -> tf.Tensor | None:
        """Returns the reference of one run; a loss with several targets overrides it.

        Args:
            logits_fn: A `LogitsFunction`.
            images: Clean images of shape `(batch, rows, cols, channels)`.
            labels: Integer labels of shape `(batch,)`.
            run: Number of the run, int32, a scalar or `(batch,)`.
        """
        del run
        return self.reference(logits_fn, images, labels)

    def __call__(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the loss of each image, float32 of shape `(batch,)`.

        Args:
            logits_fn: A `LogitsFunction`.
            images: Images of shape `(batch, rows, cols, channels)` in `[0, 1]`.
            labels: Integer labels of shape `(batch,)`.
            reference: What `reference` returned for the clean images.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `__call__`.")

    def with_logits(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        reference: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses and the logits of the same images."""
        return self(logits_fn, images, labels, reference), logits_fn(images)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttackLoss":
        """Returns a loss made from `get_config`."""
        return cls(**config)
