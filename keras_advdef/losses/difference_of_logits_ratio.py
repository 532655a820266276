"""DifferenceOfLogitsRatio: a margin that does not depend on the logits' scale."""

import keras
import tensorflow as tf

from keras_advdef.core.masked_classes import MASKED
from keras_advdef.core.predictions import largest_logits
from keras_advdef.losses.margin import Margin

_TINY = 1e-12
_FEWEST_CLASSES = 3


@keras.saving.register_keras_serializable(package="keras_advdef")
class DifferenceOfLogitsRatio(keras.losses.Loss):
    """Margin divided by the difference of the largest and third largest logit.

    Shifting or scaling the logits does not change it, so large logits cannot mask the
    gradient (Croce and Hein, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks", ICML 2020). With two classes there is
    no third logit, and the loss is the margin.

    Args:
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot `(batch, classes)`.
        y_pred: Logits of shape `(batch, classes)`.

    Returns:
        The ratio, positive for misclassified images, reduced over the batch.

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
        dtype: str | keras.DTypePolicy | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._margin = Margin()

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the ratio of each image, shape `(batch,)`."""
        logits = tf.convert_to_tensor(y_pred)
        margin = self._margin.call(y_true, logits)
        if logits.shape[-1] < _FEWEST_CLASSES:
            return margin
        first, _, third = largest_logits(logits, _FEWEST_CLASSES)
        # A mask may leave two classes.
        return margin / tf.where(third > MASKED, first - third + _TINY, 1.0)
