"""VariationalDense: a dense layer whose weights are drawn at each call."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import defence
from keras_advdef.layers._variational_card import variational_card
from keras_advdef.layers.variational_layer import VariationalLayer


@defence(variational_card("A dense layer that draws its weights at each call."))
@keras.saving.register_keras_serializable(package="keras_advdef")
class VariationalDense(VariationalLayer, keras.layers.Dense):
    """A `keras.layers.Dense` whose weights are normal, each with its own deviation.

    The weights are drawn anew at each call, in training and at inference, and the
    divergence from their prior enters `losses`; see `VariationalLayer`.

    Args:
        units: Number of outputs.
        activation: As in `keras.layers.Dense`.
        use_bias: As in `keras.layers.Dense`.
        **kwargs: `estimator`, `posterior_initializer`, `prior_stddev`, `kl_weight`,
            `variational_bias`, `deterministic`, see `VariationalLayer`; `seed`; and
            what else `keras.layers.Dense` takes, except `lora_rank`.

    Input shape:
        `(batch, ..., channels)`. Flipout flips signs for each example and channel.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If an argument is out of its range, or at the first call with
            `training=True` without `kl_weight`.
        TypeError: If `variational_bias` or `deterministic` is no `bool`.

    Example:

    >>> layer = keras_advdef.layers.VariationalDense(3, kl_weight=1 / 50000)
    >>> first, second = layer(np.ones((1, 4))), layer(np.ones((1, 4)))
    >>> bool(np.all(first == second))
    False
    """

    def __init__(
        self, units: int, activation: Any = None, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(
            units=units, activation=activation, use_bias=use_bias, **kwargs
        )

    def apply_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the matrix product."""
        return keras.ops.matmul(inputs, kernel)
