"""JPEGCompression: compresses images with JPEG and decompresses them in the graph."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_integer, invalid
from keras_advdef.core.gradients import are_gradients_smooth, straight_through
from keras_advdef.core.image_layout import shape_channels_last
from keras_advdef.core.random_numbers import integers
from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._image_shape import checked_image_shape
from keras_advdef.layers._jpeg import EXACT, SOFT, compress, quantization_tables
from keras_advdef.layers._published import BROKEN_BY_BPDA
from keras_advdef.layers.input_transform import InputTransform

_SUBSAMPLINGS = ("4:2:0", "4:4:4")
_GRADIENTS = ("straight_through", "soft")
_HIGHEST = 100


@defence(
    DefenceCard(
        summary="Compresses every image with JPEG and decompresses it.",
        category="input transformation",
        paper="Dziugaite, Ghahramani, Roy: A Study of the Effect of JPG Compression on "
        "Adversarial Images, 2016",
        claim="Corrects many of the errors caused by small FGSM perturbations on "
        "ImageNet, but few of those caused by large ones.",
        standing="broken",
        breaks=(
            BROKEN_BY_BPDA,
            Break(
                attack="PGD through differentiable rounding",
                result="finds perturbations that survive compression",
                source="Shin, Song 2017",
            ),
        ),
        gradient="straight-through",
        attacks=("PGD", "APGD", "BPDA"),
        training_cost="four small matrix products per image",
        inference_cost="the same as in training",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class JPEGCompression(InputTransform):
    """Compresses the images with JPEG and returns them decompressed.

    Pixels are first rounded to 0..255. Colour conversion, subsampling, cosine
    transform, quantisation and chroma interpolation follow libjpeg's integer
    arithmetic, so the result equals Pillow's. Images with one channel are coded as
    greyscale.

    Args:
        quality: Integer in `[1, 100]`; or a pair `(low, high)`, for a quality drawn
            uniformly from `low..high` for each image.
        subsampling: "4:2:0", which halves the resolution of the colours as most
            encoders do; or "4:4:4".
        gradient: "straight_through" for the identity (BPDA); or "soft" for the gradient
            of the codec, where the cubic of Shin and Song (2017) stands for rounding.
            `evaluate_robustness` attacks with both.
        **kwargs: `value_range`, `active`, `seed`, `name`, `dtype`; see
            `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`, of a known size with
        1 or 3 channels.

    Output shape:
        As the input.

    Raises:
        ValueError: If an argument is not as above, or the images have an unknown size
            or another number of channels.

    Example:

    >>> layer = keras_advdef.layers.JPEGCompression(quality=50)
    >>> ramp = np.linspace(0, 1, 64, dtype="float32").reshape(1, 8, 8, 1)
    >>> bool(0 < np.abs(layer(ramp) - ramp).max() < 0.1)
    True
    """

    draws = False

    def __init__(
        self,
        quality: int | tuple[int, int] = 75,
        *,
        subsampling: str = "4:2:0",
        gradient: str = "straight_through",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "JPEGCompression"
        self.quality = _checked_quality(quality)
        self.subsampling = checked_choice(
            owner, "subsampling", subsampling, _SUBSAMPLINGS
        )
        self.gradient = checked_choice(owner, "gradient", gradient, _GRADIENTS)
        if not isinstance(self.quality, int):
            self.start_drawing()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the shape of the images."""
        shape = shape_channels_last(input_shape, self.data_format)
        checked_image_shape("JPEGCompression", shape, channels=(1, 3))
        super().build(input_shape)

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the compressed images, float32 in `[0, 1]`."""
        tables = self._tables(tf.shape(images)[0])
        is_soft = self.gradient == "soft" or are_gradients_smooth()
        return _compressed(images, tables, self.subsampling, is_soft)

    def _tables(self, count: tf.Tensor) -> tf.Tensor:
        """Returns quantisation tables of shape `(count or 1, 2, 8, 8)`."""
        if isinstance(self.quality, int):
            return tf.constant(quantization_tables(self.quality)[None], tf.float32)
        low, high = self.quality
        drawn = integers(self.next_key(), [count], high - low + 1.0)
        tables = np.stack([quantization_tables(q) for q in range(low, high + 1)])
        return tf.gather(tf.constant(tables, tf.float32), tf.cast(drawn, tf.int32))

    def get_config(self) -> dict[str, Any]:
        config = {
            "quality": self.quality,
            "subsampling": self.subsampling,
            "gradient": self.gradient,
        }
        return {**super().get_config(), **config}


@compiled
def _compressed(
    images: tf.Tensor, tables: tf.Tensor, subsampling: str, soft: bool
) -> tf.Tensor:
    if soft:
        return compress(images, tables, subsampling=subsampling, rounding=SOFT)
    coded = compress(images, tables, subsampling=subsampling, rounding=EXACT)
    return straight_through(images, coded)


def _checked_quality(quality: int | Sequence[int]) -> int | tuple[int, int]:
    owner, argument = "JPEGCompression", "quality"
    if not isinstance(quality, (tuple, list)):
        return checked_integer(owner, argument, quality, low=1, high=_HIGHEST)
    if len(quality) != len(("low", "high")):
        rule = "an integer in [1, 100] or a pair (low, high) of such integers"
        raise invalid(owner, argument, rule, quality)
    low = checked_integer(owner, argument, quality[0], low=1, high=_HIGHEST)
    return low, checked_integer(owner, argument, quality[1], low=low, high=_HIGHEST)
