"""MedianSmoothing: the squeezer that takes the median of each pixel's window."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.image_layout import shape_channels_last
from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._image_shape import checked_image_shape
from keras_advdef.layers._published import EVADED_SQUEEZING, SQUEEZING
from keras_advdef.layers._selection_network import selection_network
from keras_advdef.layers.input_transform import InputTransform


@defence(
    DefenceCard(
        summary="Replaces every pixel with the median of the pixels around it.",
        category="input transformation",
        paper=SQUEEZING,
        claim="Removes perturbations of few pixels; part of the feature squeezing "
        "detector.",
        standing="broken",
        breaks=(EVADED_SQUEEZING,),
        gradient="straight-through",
        attacks=("PGD", "APGD"),
        training_cost="one selection network per pixel",
        inference_cost="the same as in training",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class MedianSmoothing(InputTransform):
    """Replaces each pixel of each channel by the median of a square window.

    Equals `scipy.ndimage.median_filter` with mode "reflect": beyond the border the
    image is mirrored, including the edge pixels. A window of even size extends one
    pixel farther up and left than down and right, and its median is the larger of the
    two middle values. The median is computed by a network of minima and maxima, without
    a sort.

    Args:
        size: Integer of at least 2. Rows and columns of the window. Xu et al. use 2
            and 3.
        **kwargs: `value_range`, `active`, `name`, `dtype`; see `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`, of a known size that
        is at least that of the window.

    Output shape:
        As the input.

    Raises:
        ValueError: If `size` is not such an integer, or the images are smaller or of
            unknown size.

    Example:

    >>> layer = keras_advdef.layers.MedianSmoothing(size=3)
    >>> speck = np.zeros((1, 5, 5, 1), "float32")
    >>> speck[0, 2, 2] = 1.0
    >>> layer(speck).numpy().max()
    np.float32(0.0)
    """

    draws = False

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = checked_integer("MedianSmoothing", "size", size, low=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the shape of the images."""
        shape = shape_channels_last(input_shape, self.data_format)
        checked_image_shape("MedianSmoothing", shape, smallest=self.size)
        super().build(input_shape)

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the smoothed images, float32 in `[0, 1]`."""
        return _smoothed(images, self.size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@compiled
def _smoothed(images: tf.Tensor, size: int) -> tf.Tensor:
    rows, columns = images.shape[1:3]
    before, after = size // 2, (size - 1) // 2
    padding = ((0, 0), (before, after), (before, after), (0, 0))
    padded = tf.pad(images, padding, "SYMMETRIC")
    window = range(size)
    taps = [padded[:, i : i + rows, j : j + columns] for i in window for j in window]
    middle = len(taps) // 2
    for low, high in selection_network(len(taps), middle):
        pair = taps[low], taps[high]
        taps[low], taps[high] = tf.minimum(*pair), tf.maximum(*pair)
    return straight_through(images, taps[middle])
