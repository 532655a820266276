"""ConvexCombination: a weighted mean whose weights are trained."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.constraints import ProbabilitySimplex
from keras_advdef.core.errors import invalid


@keras.saving.register_keras_serializable(package="keras_advdef")
class ConvexCombination(keras.layers.Layer):
    """Adds its inputs, each times a trained share; the shares sum to one.

    In place of the sum behind a residual block it keeps the Lipschitz constant of the
    larger branch instead of the sum of both. The shares begin equal and are projected
    on the simplex after each step of the optimizer.

    Args:
        **kwargs: `name`, `dtype`, `trainable`; see `keras.layers.Layer`.

    Input shape:
        A list of at least two tensors of one shape.

    Output shape:
        That shape.

    Raises:
        ValueError: If it is called with anything else.

    Reference:
        Cisse, Bojanowski, Grave, Dauphin, Usunier: Parseval Networks: Improving
        Robustness to Adversarial Examples, ICML 2017.

    Example:

    >>> layer = keras_advdef.layers.ConvexCombination()
    >>> layer([np.zeros((1, 2)), np.ones((1, 2))]).numpy().tolist()
    [[0.5, 0.5]]
    """

    def build(self, input_shape: Any) -> None:
        """Adds the shares.

        Args:
            input_shape: The list of shapes.
        """
        shapes = _checked_shapes(input_shape)
        self.shares = self.add_weight(
            name="shares",
            shape=(len(shapes),),
            initializer=keras.initializers.Constant(1.0 / len(shapes)),
            constraint=ProbabilitySimplex(),
        )

    def call(self, inputs: Sequence[Any]) -> tf.Tensor:
        """Returns the weighted mean.

        Args:
            inputs: At least two float tensors of one shape.

        Returns:
            A tensor of their shape and dtype.
        """
        shares = tf.unstack(tf.convert_to_tensor(self.shares))
        terms = [share * each for share, each in zip(shares, inputs, strict=True)]
        return tf.add_n(terms)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the first input."""
        return tuple(_checked_shapes(input_shape)[0])

    def get_config(self) -> dict[str, Any]:
        # Keras wants it written where `dtype` may be a policy.
        return super().get_config()


def _checked_shapes(shapes: Any) -> list[Any]:
    is_list = isinstance(shapes, (list, tuple)) and all(
        isinstance(each, (list, tuple)) for each in shapes
    )
    if not is_list or len(shapes) < 2 or len({tuple(each) for each in shapes}) > 1:
        rule = "a list of at least two tensors of one shape"
        raise invalid("ConvexCombination", "inputs", rule, shapes)
    return list(shapes)
