"""ParsevalConv2D: a convolution that is 1-Lipschitz for an orthonormal kernel."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.constraints import Parseval


@keras.saving.register_keras_serializable(package="keras_advdef")
class ParsevalConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` that is 1-Lipschitz while its kernel is orthonormal.

    A pixel is in up to `rows * columns` windows, so the Lipschitz constant of a
    convolution may exceed the largest singular value of its kernel by the square root
    of that number. The layer divides the kernel by this root (not by the number itself,
    as some do); the stored kernel stays orthonormal. By default, initializer and
    constraint are those of Parseval networks.

    Args:
        filters: Number of output channels.
        kernel_size: As in `keras.layers.Conv2D`.
        kernel_initializer: As in `keras.layers.Conv2D`.
        kernel_constraint: As in `keras.layers.Conv2D`; `None` for
            `constraints.Parseval()`.
        **kwargs: Other arguments of `keras.layers.Conv2D`.

    Input shape:
        `(batch, rows, cols, channels)`, or as `data_format` says.

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
        kernel_size: int | tuple[int, int],
        *,
        kernel_initializer: str | dict[str, Any] | keras.Initializer = "orthogonal",
        kernel_constraint: keras.constraints.Constraint | None = None,
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
        """Returns the convolution with the scaled kernel."""
        return super().convolution_op(inputs, kernel * window_factor(self.kernel_size))


def window_factor(kernel_size: tuple[int, int]) -> float:
    """Returns one over the square root of the number of pixels in a window.

    Args:
        kernel_size: Rows and columns.

    Returns:
        The factor that scales the kernel.
    """
    rows, columns = kernel_size
    return float((rows * columns) ** -0.5)
