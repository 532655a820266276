"""Resamples single images: centred zooms, boxes, and blurs along a line."""

import functools
import math

import numpy as np


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns an image magnified around its centre, at its own size, linearly.

    Args:
        image: Array `(rows, cols, channels)`.
        factor: At least 1.

    Example:

    >>> from keras_advdef.evaluation._corrupt.resampling import zoomed
    >>> zoomed(np.arange(3.0).reshape(3, 1, 1), 2.0).ravel()
    array([0.5, 1. , 1.5])
    """
    for axis in (0, 1):
        size = image.shape[axis]
        middle = (size - 1) / 2
        place = middle + (np.arange(size) - middle) / factor
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, size - 1)
        share = (place - below).astype(image.dtype).reshape((-1, 1) + (1,) * (1 - axis))
        low, high = np.take(image, below, axis), np.take(image, above, axis)
        image = low + share * (high - low)
    return image


@functools.lru_cache(maxsize=64)
def box_matrix(size: int, other: int) -> np.ndarray:
    """Returns the matrix `(other, size)` that resizes a line by averaging boxes.

    It is Pillow's: a pixel belongs to the box that its centre is in.

    Args:
        size: Length of the line.
        other: Length of the result.

    Example:

    >>> from keras_advdef.evaluation._corrupt.resampling import box_matrix
    >>> box_matrix(4, 2)
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]])
    """
    scale = size / other
    middle = (np.arange(other)[:, None] + 0.5) * scale
    reach = 0.5 * max(scale, 1.0)
    away = np.arange(size) + 0.5 - middle
    inside = ((away > -reach) & (away <= reach)).astype(np.float64)
    return inside / inside.sum(axis=1, keepdims=True)


def blurred_along(
    image: np.ndarray, *, radius: float, sigma: float, degrees: float
) -> np.ndarray:
    """Returns an image smeared to one side along a line, as ImageMagick does.

    Args:
        image: Array `(rows, cols, channels)`.
        radius: Half of the length of the trace, in pixels.
        sigma: Standard deviation of its Gaussian weights, in pixels.
        degrees: Direction of the line, clockwise from the columns.

    Example:

    >>> from keras_advdef.evaluation._corrupt.resampling import blurred_along
    >>> image = np.array([0.0, 0.0, 1.0]).reshape(1, 3, 1)
    >>> blurred_along(image, radius=1, sigma=1e9, degrees=0).ravel().round(2)
    array([0.33, 0.67, 1.  ])
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    angle = math.radians(degrees)
    downs = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    rights = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    rows, cols = image.shape[:2]
    wide = len(steps)
    padded = np.pad(image, ((wide, wide), (wide, wide), (0, 0)), mode="edge")
    blurred = np.zeros_like(image)
    for weight, down, right in zip(weights, downs, rights, strict=True):
        top, left = wide + down, wide + right
        blurred += weight * padded[top : top + rows, left : left + cols]
    return blurred
