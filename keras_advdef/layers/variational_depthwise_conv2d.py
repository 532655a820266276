"""VariationalDepthwiseConv2D: a depthwise convolution with fresh weights per call."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import defence
from keras_advdef.layers._variational_card import variational_card
from keras_advdef.layers.variational_layer import VariationalLayer


@defence(
    variational_card("A depthwise convolution that draws fresh weights at each call.")
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class VariationalDepthwiseConv2D(VariationalLayer, keras.layers.DepthwiseConv2D):
    """A `keras.layers.DepthwiseConv2D` whose weights are independent normal variables.

    Each call draws fresh weights, in training and at inference. The divergence from
    their prior is in `losses`; see `VariationalLayer`.

    Args:
        kernel_size: As in `keras.layers.DepthwiseConv2D`.
        strides: As in `keras.layers.DepthwiseConv2D`.
        **kwargs: `estimator`, `posterior_initializer`, `prior_stddev`, `kl_weight`,
            `variational_bias` and `deterministic`, see `VariationalLayer`; `seed`;
            `depth_multiplier`, `padding`, `activation` and other arguments of
            `keras.layers.DepthwiseConv2D`.

    Input shape:
        `(batch, rows, cols, channels)`, or as `data_format` says. Flipout flips signs
        per example and channel, the same at all positions of an image.

    Output shape:
        As `keras.layers.DepthwiseConv2D`.

    Raises:
        ValueError: If an argument is out of bounds, or on the first call with
            `training=True` if `kl_weight` is not set.
        TypeError: If `variational_bias` or `deterministic` is not a `bool`.

    Example:

    >>> layer = keras_advdef.layers.VariationalDepthwiseConv2D(
    ...     3, depth_multiplier=2, kl_weight=1 / 50000)
    >>> layer(np.zeros((2, 8, 8, 3))).shape
    TensorShape([2, 6, 6, 6])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_size=kernel_size, strides=strides, **kwargs)

    def apply_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the depthwise convolution."""
        return keras.ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
