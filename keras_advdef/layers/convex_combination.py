"""ConvexCombination: a weighted mean with trainable weights."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.constraints import ProbabilitySimplex
from keras_advdef.core.errors import invalid
from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_rule import interval_rule


@keras.saving.register_keras_serializable(package="keras_advdef")
class ConvexCombination(keras.layers.Layer):
    """Averages its inputs with trainable weights that sum to one.

    At the end of a residual block it replaces the sum: the Lipschitz constant is then
    at most that of the larger branch, instead of the sum of both. The weights start
    equal and are projected onto the simplex after each optimizer step.

    Args:
        **kwargs: `name`, `dtype`, `trainable`; see `keras.layers.Layer`.

    Input shape:
        A list of at least two tensors of the same shape.

    Output shape:
        Same as each input.

    Raises:
        ValueError: If it is called on anything else.

    Reference:
        Cisse, Bojanowski, Grave, Dauphin, Usunier: Parseval Networks: Improving
        Robustness to Adversarial Examples, ICML 2017.

    Example:

    >>> layer = keras_advdef.layers.ConvexCombination()
    >>> layer([np.zeros((1, 2)), np.ones((1, 2))]).numpy().tolist()
    [[0.5, 0.5]]
    """

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Creates the weights.

        Args:
            input_shape: List of the inputs' shapes.
        """
        shapes = _checked_shapes(input_shape)
        self.shares = self.add_weight(
            name="shares",
            shape=(len(shapes),),
            initializer=keras.initializers.Constant(1.0 / len(shapes)),
            constraint=ProbabilitySimplex(),
        )

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the weighted mean.

        Args:
            inputs: At least two float tensors of the same shape.

        Returns:
            Tensor of the same shape and dtype.
        """
        shares = tf.unstack(tf.convert_to_tensor(self.shares))
        terms = [share * each for share, each in zip(shares, inputs, strict=True)]
        return tf.add_n(terms)

    def compute_output_shape(
        self, input_shape: Sequence[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the first input."""
        return tuple(_checked_shapes(input_shape)[0])

    def get_config(self) -> dict[str, Any]:
        # Without this method, Keras cannot serialize a layer whose `dtype` is a policy.
        return super().get_config()


@interval_rule(ConvexCombination)
def _boxes(layer: ConvexCombination, *boxes: Interval) -> Interval:
    shares = tf.unstack(tf.cast(layer.shares, boxes[0].lower.dtype))
    centre = tf.add_n([s * b.centre for s, b in zip(shares, boxes, strict=True)])
    # A step of the optimizer may leave one below 0 until the constraint is applied.
    spread = [abs(s) * b.radius for s, b in zip(shares, boxes, strict=True)]
    radius = tf.add_n(spread)
    return Interval(centre - radius, centre + radius)


def _checked_shapes(shapes: Any) -> list[tuple[int | None, ...]]:
    is_list = isinstance(shapes, (list, tuple)) and all(
        isinstance(each, (list, tuple)) for each in shapes
    )
    if not is_list or len(shapes) < 2 or len({tuple(each) for each in shapes}) > 1:
        rule = "a list of at least two tensors of the same shape"
        raise invalid("ConvexCombination", "inputs", rule, shapes)
    return list(shapes)
