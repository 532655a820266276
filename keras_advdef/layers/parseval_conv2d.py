"""ParsevalConv2D: a convolution that enlarges no image."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.constraints import Parseval


@keras.saving.register_keras_serializable(package="keras_advdef")
class ParsevalConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` that enlarges nothing while its kernel is orthonormal.

    A pixel lies in up to `rows * columns` windows, so that a convolution may enlarge by
    the square root of that beyond its kernel's largest singular value. The kernel is
    used divided by that root (not by the number of pixels, as some have it); the stored
    one stays orthonormal. Start and constraint are those of Parseval networks unless
    others are given.

    Args:
        filters: Number of output channels.
        kernel_size: As in `keras.layers.Conv2D`.
        kernel_initializer: As there.
        kernel_constraint: As there; `None` for `constraints.Parseval()`.
        **kwargs: What else `keras.layers.Conv2D` takes.

    Input shape:
        `(batch, rows, cols, channels)`, or as `data_format` has it.

    Output shape:
        As `keras.layers.Conv2D`.

    Reference:
        Cisse, Bojanowski, Grave, Dauphin, Usunier: Parseval Networks: Improving
        Robustness to Adversarial Examples, ICML 2017.

    Example:

    >>> layer = keras_advdef.layers.ParsevalConv2D(16, 3, padding="same")
    >>> layer(np.zeros((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 16])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        *,
        kernel_initializer: Any = "orthogonal",
        kernel_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            kernel_initializer=kernel_initializer,
            kernel_constraint=kernel_constraint or Parseval(),
            **kwargs,
        )

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the convolution with the kernel, divided."""
        return super().convolution_op(inputs, kernel * window_factor(self.kernel_size))


def window_factor(kernel_size: Any) -> float:
    """Returns one over the square root of the number of pixels in a window.

    Args:
        kernel_size: Rows and columns.

    Returns:
        A number.
    """
    rows, columns = kernel_size
    return float((rows * columns) ** -0.5)
