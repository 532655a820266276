"""VariationalDense: a dense layer that draws fresh weights at each call."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import defence
from keras_advdef.layers._variational_card import variational_card
from keras_advdef.layers.variational_layer import VariationalLayer


@defence(variational_card("A dense layer that draws fresh weights at each call."))
@keras.saving.register_keras_serializable(package="keras_advdef")
class VariationalDense(VariationalLayer, keras.layers.Dense):
    """A `keras.layers.Dense` whose weights are independent normal variables.

    Each call draws fresh weights, in training and at inference. The divergence from
    their prior is in `losses`; see `VariationalLayer`.

    Args:
        units: Number of outputs.
        activation: As in `keras.layers.Dense`.
        use_bias: As in `keras.layers.Dense`.
        **kwargs: `estimator`, `posterior_initializer`, `prior_stddev`, `kl_weight`,
            `variational_bias` and `deterministic`, see `VariationalLayer`; `seed`; and
            other arguments of `keras.layers.Dense`, except `lora_rank`.

    Input shape:
        `(batch, ..., channels)`. Flipout flips signs per example and channel.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If an argument is out of bounds, or on the first call with
            `training=True` if `kl_weight` is not set.
        TypeError: If `variational_bias` or `deterministic` is not a `bool`.

    Example:

    >>> layer = keras_advdef.layers.VariationalDense(3, kl_weight=1 / 50000)
    >>> first, second = layer(np.ones((1, 4))), layer(np.ones((1, 4)))
    >>> bool(np.all(first == second))
    False
    """

    def __init__(
        self,
        units: int,
        activation: str | Callable[[tf.Tensor], tf.Tensor] | None = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units=units, activation=activation, use_bias=use_bias, **kwargs
        )

    def apply_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the matrix product."""
        return keras.ops.matmul(inputs, kernel)
