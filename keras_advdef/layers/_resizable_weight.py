"""A weight whose shape may change, even after functions were traced."""

import keras
import tensorflow as tf
from numpy.typing import ArrayLike


class ResizableWeight(keras.Variable):
    """A matrix whose shape is that of the last assigned value.

    Keras fixes the shape of a weight when it is created. This one starts empty and can
    be assigned, or loaded from a file, in any size. Functions traced before see the new
    value, too: a tensor of unknown size, for which XLA compiles once per size.

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

    def _initialize(self, value: ArrayLike) -> None:
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
        """The current shape, even while a function is traced."""
        with tf.init_scope():
            return tf.TensorShape(tf.shape(self._value).numpy())

    def assign(self, value: ArrayLike) -> tf.Tensor:
        """Replaces the value with a matrix of any size.

        Args:
            value: Array-like of rank 2.

        Returns:
            The value as a float32 tensor.
        """
        value = tf.convert_to_tensor(value, self._dtype)
        self._value.assign(value)
        return value
