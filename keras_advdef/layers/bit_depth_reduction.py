"""BitDepthReduction: a feature squeezer that rounds pixels to a few levels."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.gradients import straight_through
from keras_advdef.layers._published import BROKEN_BY_BPDA, EVADED_SQUEEZING, SQUEEZING
from keras_advdef.layers.input_transform import InputTransform

_MOST_BITS = 8


@defence(
    DefenceCard(
        summary="Rounds every pixel to one of a few evenly spaced levels.",
        category="input transformation",
        paper=SQUEEZING,
        claim="Removes small perturbations at little cost in accuracy.",
        standing="broken",
        breaks=(
            BROKEN_BY_BPDA,
            EVADED_SQUEEZING,
        ),
        gradient="straight-through",
        attacks=("PGD", "APGD"),
        training_cost="none",
        inference_cost="one rounding per pixel",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class BitDepthReduction(InputTransform):
    """Rounds every pixel to one of `2**bits` evenly spaced levels.

    A perturbation that does not cross a rounding boundary vanishes. The formula is that
    of Xu et al., `round(x * (2**bits - 1)) / (2**bits - 1)`, with halves rounded to
    even. The gradient of rounding is zero, so the backward pass uses the identity
    (BPDA), and attacks do not run into a masked gradient.

    Args:
        bits: Integer in `[1, 8]`. Bits to keep per channel.
        **kwargs: `value_range`, `active`, `name`, `dtype`; see `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If `bits` is not an integer in `[1, 8]`.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(bits=1)
    >>> layer(np.array([0.2, 0.6]).reshape(1, 1, 2, 1)).numpy().ravel()
    array([0., 1.])
    """

    draws = False
    is_spatial = False

    def __init__(self, bits: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = checked_integer(
            "BitDepthReduction", "bits", bits, low=1, high=_MOST_BITS
        )

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the rounded images, float32 in `[0, 1]`."""
        steps = 2**self.bits - 1
        return straight_through(images, tf.round(images * steps) / steps)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits}
