"""Interval: lower and upper bounds of every value of a tensor."""

from typing import NamedTuple

import tensorflow as tf


class Interval(NamedTuple):
    """A box: lower and upper bounds of every value of a tensor.

    Args:
        lower: Tensor `(batch, ...)`.
        upper: Tensor of the same shape, nowhere smaller.

    Example:

    >>> box = keras_advdef.core.Interval(tf.constant([0.0]), tf.constant([3.0]))
    >>> box.centre.numpy().tolist(), box.radius.numpy().tolist()
    ([1.5], [1.5])
    """

    lower: tf.Tensor
    upper: tf.Tensor

    @property
    def centre(self) -> tf.Tensor:
        """The middle of the box."""
        return 0.5 * (self.lower + self.upper)

    @property
    def radius(self) -> tf.Tensor:
        """Half the width of the box."""
        return 0.5 * (self.upper - self.lower)

    @property
    def magnitude(self) -> tf.Tensor:
        """The largest absolute value in the box."""
        return tf.maximum(tf.abs(self.lower), tf.abs(self.upper))

    def widened(self, by: tf.Tensor) -> "Interval":
        """Returns a box that is larger on each side.

        Args:
            by: Tensor of at least 0, which broadcasts to the box.
        """
        return Interval(self.lower - by, self.upper + by)
