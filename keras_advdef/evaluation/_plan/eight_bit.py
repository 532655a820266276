"""8-bit images: the only ones that some models answer to."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.gradients import straight_through
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.value_range import ValueRange

_LEVELS = 255
# Of a level, what rounding to float32 may change.
_ROUNDING = 1e-2


def _scale(pixels: ValueRange) -> float:
    return _LEVELS / pixels.span


def is_eight_bit(images: np.ndarray, pixels: ValueRange) -> bool:
    """Returns whether every pixel is one of 256 evenly spaced values.

    Args:
        images: Images in the value range.
        pixels: The value range.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._plan.eight_bit import is_eight_bit
    >>> is_eight_bit(np.array([0.2, 1.0]), ValueRange(0, 1))
    True
    >>> is_eight_bit(np.array([0.201, 1.0]), ValueRange(0, 1))
    False
    """
    levels = (images.astype(np.float64) - pixels.low) * _scale(pixels)
    return bool((np.abs(levels - np.rint(levels)) < _ROUNDING).all())


def to_eight_bit(
    attacked: np.ndarray,
    clean: np.ndarray,
    *,
    epsilon: float,
    norm: str,
    pixels: ValueRange,
) -> np.ndarray:
    """Rounds attacked images to 8 bits, and not out of the ball.

    Args:
        attacked: Images in the ball.
        clean: The 8-bit images in its middle.
        epsilon: Its radius.
        norm: Its norm.
        pixels: The value range.

    Returns:
        The nearest 8-bit images, or where those lie outside the ball, the nearest
        between clean and attacked.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._plan.eight_bit import to_eight_bit
    >>> clean, attacked = (np.full((1, 1, 1, 1), each) for each in (100.0, 107.6))
    >>> for epsilon in (8.0, 7.6):
    ...     print(to_eight_bit(attacked, clean, epsilon=epsilon, norm="linf",
    ...                        pixels=ValueRange(0, 255)).item())
    108.0
    107.0
    """
    scale = _scale(pixels)
    moved = (attacked.astype(np.float64) - clean) * scale
    levels = np.rint((clean.astype(np.float64) - pixels.low) * scale)

    def rounded(steps: np.ndarray) -> np.ndarray:
        return ((levels + steps) / scale + pixels.low).astype(np.float32)

    nearest = rounded(np.rint(moved))
    norms = norm_per_image(tf.constant(nearest - clean, tf.float32), norm).numpy()
    leaves = norms > epsilon * (1.0 + 1e-5)
    # What float32 makes of a whole number of levels is that number.
    inside = rounded(np.trunc(moved + np.sign(moved) * _ROUNDING))
    return np.where(leaves[:, None, None, None], inside, nearest)


class OnEightBit(LogitsModel):
    """A model that sees 8-bit images, whatever it is given.

    The gradient passes the rounding as if it were not there.

    Args:
        model: A Keras model or a function from images to logits.
        pixels: The value range of its images.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._plan.eight_bit import OnEightBit
    >>> model = OnEightBit(lambda images: images[:, 0, 0], ValueRange(0, 255))
    >>> model.logits(tf.constant([[[[3.4, 3.6]]]])).numpy().tolist()
    [[3.0, 4.0]]
    """

    def __init__(self, model: Any, pixels: ValueRange) -> None:
        super().__init__()
        self.model = model
        self.pixels = pixels
        self.built = True

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits of the rounded images."""
        scale, low = _scale(self.pixels), self.pixels.low
        rounded = tf.round((images - low) * scale) / scale + low
        inner = LogitsFunction(ModelView(self.model), training=training)
        return inner(straight_through(images, rounded))

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits of the rounded images."""
        return self.logits(images, training=training)
