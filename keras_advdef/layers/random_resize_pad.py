"""RandomResizePad: resizes and pads every image at random."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import (
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.random_numbers import fold_in, integers
from keras_advdef.layers._resampling import METHODS, apply_matrices, resize_matrix
from keras_advdef.layers.input_transform import InputTransform


@defence(
    DefenceCard(
        summary="Resizes every image to a random size and pads it at a random place.",
        category="randomization",
        paper="Xie, Wang, Zhang, Ren, Yuille: Mitigating Adversarial Effects Through "
        "Randomization, ICLR 2018",
        claim="With ensemble adversarial training, 86 % accuracy on ImageNet at linf "
        "10/255, measured on images that are classified correctly when clean.",
        standing="broken",
        breaks=(
            Break(
                attack="EOT over 30 draws",
                result="0 % accuracy on ImageNet at linf 8/255",
                source="Athalye, Carlini, Wagner 2018",
            ),
        ),
        eot_samples=30,
        attacks=("PGD", "APGD"),
        training_cost="two small matrix products per image",
        inference_cost="the same as in training, and more pixels for the classifier",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class RandomResizePad(InputTransform):
    """Resizes each image to a random size and pads it to a fixed one.

    The side is uniform on `min_size..output_size`, both included, and the position is
    uniform over all that fit. Each image of a batch has its own draw, whatever
    `training` is. The classifier after it must accept `output_size`, so give it global
    pooling. While inactive, the layer resizes to `output_size` without padding.

    Xie et al. put `RandomResizePad(331, 299)` in front of a network for 299 pixels
    (they leave out the side 331, one of 12 529 patterns). The equivalent for images of
    32 pixels is `RandomResizePad(36, 32)`, for 28 pixels `RandomResizePad(32, 28)`. To
    average predictions over draws, call the model several times.

    Args:
        output_size: Integer of at least 1. Height and width of the output, in pixels.
        min_size: Integer in `[1, output_size]`. Smallest side; `None` for 299/331 of
            `output_size`, rounded (Xie's ratio).
        method: "bilinear" or "nearest".
        padding_value: Number in `value_range` that fills the padding; `None` for the
            low end of the range.
        **kwargs: `value_range`, `active`, `seed`, `name`, `dtype`; see
            `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`.

    Output shape:
        `(batch, output_size, output_size, channels)`.

    Raises:
        ValueError: If an argument is out of bounds.

    Example:

    >>> layer = keras_advdef.layers.RandomResizePad(output_size=32, min_size=28)
    >>> layer(np.ones((2, 28, 28, 1))).shape
    TensorShape([2, 32, 32, 1])
    """

    def __init__(
        self,
        output_size: int,
        min_size: int | None = None,
        *,
        method: str = "bilinear",
        padding_value: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "RandomResizePad"
        self.output_size = checked_integer(owner, "output_size", output_size, low=1)
        self.min_size = min_size
        if min_size is not None:
            checked_integer(owner, "min_size", min_size, low=1, high=output_size)
        self.method = checked_choice(owner, "method", method, METHODS)
        self.padding_value = padding_value
        if padding_value is not None:
            value = checked_number(owner, "padding_value", padding_value)
            if not self.value_range.low <= value <= self.value_range.high:
                rule = f"in the value range {tuple(self.value_range)}"
                raise invalid(owner, "padding_value", rule, padding_value)

    @property
    def _smallest(self) -> int:
        if self.min_size is not None:
            return self.min_size
        return max(1, round(self.output_size * 299 / 331))

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns resized and padded images, float32 in `[0, 1]`."""
        key, count = self.next_key(), tf.shape(images)[0]
        choices = self.output_size - self._smallest + 1
        sides = self._smallest + integers(fold_in(key, 0), [count], choices)
        places = self.output_size - sides + 1.0
        top = integers(fold_in(key, 1), [count], places)
        left = integers(fold_in(key, 2), [count], places)
        return self._resized(images, sides, top, left)

    def pass_through(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images resized to the full output size, float32 in `[0, 1]`."""
        zeros = tf.zeros([tf.shape(images)[0]])
        return self._resized(images, zeros + float(self.output_size), zeros, zeros)

    def _resized(
        self, images: tf.Tensor, sides: tf.Tensor, top: tf.Tensor, left: tf.Tensor
    ) -> tf.Tensor:
        height, width, channels = images.shape[1:]
        target, method = self.output_size, self.method
        rows = resize_matrix(sides, top, source=height, target=target, method=method)
        columns = resize_matrix(sides, left, source=width, target=target, method=method)
        resized = apply_matrices(images, rows, columns)
        if self.padding_value not in (None, self.value_range.low):
            # Rows of the matrices sum to one inside and to zero outside the image.
            inside = (
                tf.reduce_sum(rows, 2)[:, :, None] * tf.reduce_sum(columns, 2)[:, None]
            )
            padding = self.value_range.to_unit(self.padding_value)
            resized += padding * (1.0 - tf.round(inside))[..., None]
        # Bilinear weights sum to one only up to rounding.
        resized = tf.clip_by_value(resized, 0.0, 1.0)
        return tf.ensure_shape(resized, [None, target, target, channels])

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape with `output_size` rows and columns."""
        sizes = [self.output_size, self.output_size]
        if self.data_format == "channels_first":
            return (*input_shape[:2], *sizes)
        return (input_shape[0], *sizes, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "output_size": self.output_size,
            "min_size": self.min_size,
            "method": self.method,
            "padding_value": self.padding_value,
        }
