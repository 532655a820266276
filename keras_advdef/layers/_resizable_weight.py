"""A weight that takes values of another shape, also after functions were traced."""

from typing import Any

import keras
import tensorflow as tf


class ResizableWeight(keras.Variable):
    """A matrix whose numbers of rows and columns are those of the last assignment.

    Keras fixes the shape of a weight when it is made. This one is empty at first and
    may be assigned, or loaded from a file, in any size. Functions traced before see
    the new value too, as tensor of unknown size that XLA compiles anew for each size.

    Args:
        name: Name of the weight.

    Example:

    >>> weight = keras_advdef.layers._resizable_weight.ResizableWeight("bank")
    >>> weight.assign(np.ones((3, 2))).shape, weight.assign(np.ones((5, 4))).shape
    (TensorShape([3, 2]), TensorShape([5, 4]))
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            lambda shape, dtype=None: tf.zeros(shape, dtype),
            shape=(0, 0),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def _initialize(self, value: Any) -> None:
        # Keras 3.15 has no public way to choose the shape of TensorFlow's variable.
        self._value = tf.Variable(
            value,
            dtype=self._dtype,
            trainable=False,
            name=self.name,
            shape=tf.TensorShape([None, None]),
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @property
    def shape(self) -> tf.TensorShape:
        """Shape of the value at this moment, also while a function is traced."""
        with tf.init_scope():
            return tf.TensorShape(tf.shape(self._value).numpy())

    def assign(self, value: Any) -> tf.Tensor:
        """Replaces the value by a matrix of any size.

        Args:
            value: Array-like of rank 2.

        Returns:
            The value as a float32 tensor.
        """
        value = tf.convert_to_tensor(value, self._dtype)
        self._value.assign(value)
        return value
