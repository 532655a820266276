"""VariationalConv2D: a convolution that draws fresh weights at each call."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import defence
from keras_advdef.layers._variational_card import variational_card
from keras_advdef.layers.variational_layer import VariationalLayer


@defence(variational_card("A convolution that draws fresh weights at each call."))
@keras.saving.register_keras_serializable(package="keras_advdef")
class VariationalConv2D(VariationalLayer, keras.layers.Conv2D):
    """A `keras.layers.Conv2D` whose weights are independent normal variables.

    Each call draws fresh weights, in training and at inference. The divergence from
    their prior is in `losses`; see `VariationalLayer`.

    Args:
        filters: Number of output channels.
        kernel_size: As in `keras.layers.Conv2D`.
        strides: As in `keras.layers.Conv2D`.
        **kwargs: `estimator`, `posterior_initializer`, `prior_stddev`, `kl_weight`,
            `variational_bias` and `deterministic`, see `VariationalLayer`; `seed`;
            `padding`, `activation` and other arguments of `keras.layers.Conv2D`,
            except `lora_rank`.

    Input shape:
        `(batch, rows, cols, channels)`, or as `data_format` says. Flipout flips signs
        per example and channel, the same at all positions of an image.

    Output shape:
        As `keras.layers.Conv2D`.

    Raises:
        ValueError: If an argument is out of bounds, or on the first call with
            `training=True` if `kl_weight` is not set.
        TypeError: If `variational_bias` or `deterministic` is not a `bool`.

    Example:

    >>> layer = keras_advdef.layers.VariationalConv2D(
    ...     16, 3, padding="same", kl_weight=1 / 50000)
    >>> layer(np.zeros((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 16])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters=filters, kernel_size=kernel_size, strides=strides, **kwargs
        )

    def apply_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the convolution."""
        return self.convolution_op(inputs, kernel)
