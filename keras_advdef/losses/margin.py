"""Margin: the lead of the best wrong class over the true one."""

import keras
import tensorflow as tf

from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.predictions import margin_over_label


@keras.saving.register_keras_serializable(package="keras_advdef")
class Margin(keras.losses.Loss):
    """Largest logit of another class minus the logit of the label.

    It is positive for misclassified images. Unlike cross-entropy it does not saturate,
    so its gradient survives logits of any size (Carlini and Wagner 2017).

    Args:
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot `(batch, classes)`.
        y_pred: Logits of shape `(batch, classes)`.

    Returns:
        The margin in logits, reduced over the batch.

    Example:

    >>> margin = keras_advdef.losses.Margin()
    >>> float(margin([0], [[2.0, 1.0, 0.0, -1.0]]))
    -1.0
    """

    def __init__(
        self,
        *,
        name: str = "margin",
        reduction: str | None = "sum_over_batch_size",
        dtype: str | keras.DTypePolicy | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the margin of each image, shape `(batch,)`."""
        return margin_over_label(tf.convert_to_tensor(y_pred), sparse_labels(y_true))
