"""NonLocalMeans: the squeezer that averages pixels with similar surroundings."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer, checked_number, invalid
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.image_layout import shape_channels_last
from keras_advdef.core.loops import fixed_loop
from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._image_shape import checked_image_shape
from keras_advdef.layers._published import EVADED_SQUEEZING, SQUEEZING
from keras_advdef.layers.input_transform import InputTransform


@defence(
    DefenceCard(
        summary="Averages every pixel with others whose surroundings look similar.",
        category="input transformation",
        paper=f"{SQUEEZING}; the filter is that of Buades, Coll, Morel, CVPR 2005",
        claim="Smooths without blurring edges; part of the feature squeezing detector "
        "for colour images.",
        standing="broken",
        breaks=(EVADED_SQUEEZING,),
        gradient="straight-through",
        attacks=("PGD", "APGD"),
        training_cost="one comparison of patches per pixel of the search window",
        inference_cost="the same as in training",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class NonLocalMeans(InputTransform):
    """Replaces each pixel by a mean of the pixels around it, weighted by similarity.

    The weight of a pixel in the search window is `exp(-d / strength**2)`, where `d` is
    the mean squared difference, over pixels and channels, between the patch around it
    and the patch around the replaced pixel. Beyond the border the image is mirrored.
    Xu et al. used OpenCV, which filters colour images in CIELAB with 8-bit arithmetic.
    This layer filters all channels together without conversion, so its results on
    colour images differ.

    Args:
        search: Odd integer of at least 3. Rows and columns of the search window.
        patch: Odd integer of at least 1. Rows and columns of the compared patches.
        strength: Positive number. How much patches may differ, in units of `[0, 1]`
            whatever `value_range` is. Xu et al. use 2/255 and 4/255.
        **kwargs: `value_range`, `active`, `name`, `dtype`; see `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`, of a known size with
        more than `search // 2 + patch // 2` rows and columns.

    Output shape:
        As the input.

    Raises:
        ValueError: If an argument is out of bounds, or the images are too small or of
            unknown size.

    Example:

    >>> layer = keras_advdef.layers.NonLocalMeans(search=5, strength=0.2)
    >>> noisy = np.random.default_rng(0).uniform(0.4, 0.6, (1, 8, 8, 3))
    >>> bool(np.std(layer(noisy)) < 0.5 * np.std(noisy))
    True
    """

    draws = False

    def __init__(
        self,
        *,
        search: int = 13,
        patch: int = 3,
        strength: float = 4 / 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "NonLocalMeans"
        self.search = _checked_odd("search", search, low=3)
        self.patch = _checked_odd("patch", patch, low=1)
        self.strength = checked_number(
            owner, "strength", strength, low=0.0, low_open=True
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the shape of the images."""
        smallest = self.search // 2 + self.patch // 2 + 1
        shape = shape_channels_last(input_shape, self.data_format)
        checked_image_shape("NonLocalMeans", shape, smallest=smallest)
        super().build(input_shape)

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the averaged images, float32 in `[0, 1]`."""
        return _averaged(images, self.search, self.patch, self.strength)

    def get_config(self) -> dict[str, Any]:
        config = {
            "search": self.search,
            "patch": self.patch,
            "strength": self.strength,
        }
        return {**super().get_config(), **config}


def _checked_odd(argument: str, value: int, *, low: int) -> int:
    if checked_integer("NonLocalMeans", argument, value, low=low) % 2 == 0:
        raise invalid("NonLocalMeans", argument, "an odd integer", value)
    return int(value)


@compiled
def _averaged(images: tf.Tensor, search: int, patch: int, strength: float) -> tf.Tensor:
    rows, columns = images.shape[1:3]
    reach, border = search // 2, patch // 2
    margin = reach + border
    padding = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = tf.pad(images, padding, "REFLECT")
    size = (-1, rows + 2 * border, columns + 2 * border, -1)
    own = tf.slice(padded, (0, reach, reach, 0), size)
    places = np.indices((search, search)).reshape(2, -1).T

    def add(
        index: int | tf.Tensor, state: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        row, column = tf.unstack(tf.gather(tf.constant(places, tf.int32), index))
        other = tf.slice(padded, (0, row, column, 0), size)
        apart = tf.reduce_mean((other - own) ** 2, axis=-1, keepdims=True)
        weight = tf.exp(-_window_mean(apart, patch) / strength**2)
        pixels = other[:, border : border + rows, border : border + columns]
        return state[0] + weight * pixels, state[1] + weight

    start = tf.zeros_like(images), tf.zeros_like(images[..., :1])
    sums, weights = fixed_loop(add, start, len(places))
    # The pixel's own weight is one, so the divisor is not zero. Rounding may leave the
    # range.
    return straight_through(images, tf.clip_by_value(sums / weights, 0.0, 1.0))


def _window_mean(planes: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the means of all full windows."""
    rows, columns = planes.shape[1] - size + 1, planes.shape[2] - size + 1
    tall = tf.add_n([planes[:, i : i + rows] for i in range(size)])
    return tf.add_n([tall[:, :, j : j + columns] for j in range(size)]) / size**2
