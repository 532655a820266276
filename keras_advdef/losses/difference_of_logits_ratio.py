"""DifferenceOfLogitsRatio: the margin, free of the scale of the logits."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.predictions import largest_logits
from keras_advdef.losses.margin import Margin

_TINY = 1e-12
_FEWEST_CLASSES = 3


@keras.saving.register_keras_serializable(package="keras_advdef")
class DifferenceOfLogitsRatio(keras.losses.Loss):
    """Margin divided by the distance from the largest to the third largest logit.

    Shifting or scaling the logits changes nothing, so a model cannot hide by large
    logits (Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks", ICML). With two classes there is no
    third logit, and the loss is the margin.

    Args:
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot `(batch, classes)`.
        y_pred: Logits of shape `(batch, classes)`.

    Returns:
        The ratio, positive where an image is misclassified, reduced over the batch.

    Example:

    >>> dlr = keras_advdef.losses.DifferenceOfLogitsRatio()
    >>> float(dlr([0], [[2.0, 1.0, 0.0, -1.0]]))
    -0.5
    """

    def __init__(
        self,
        *,
        name: str = "difference_of_logits_ratio",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._margin = Margin()

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns the ratio of each image, shape `(batch,)`."""
        logits = tf.convert_to_tensor(y_pred)
        margin = self._margin.call(y_true, logits)
        if logits.shape[-1] < _FEWEST_CLASSES:
            return margin
        first, _, third = largest_logits(logits, _FEWEST_CLASSES)
        return margin / (first - third + _TINY)
