"""The JPEG codec as matrix products, with the results of libjpeg's default codec.

libjpeg's integers are whole numbers in float32 here. The sums that it rounds are below
2**24, or their error is far smaller than the unit to which they are rounded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.core.gradients import straight_through

# ITU-T T.81, annex K: rows are vertical frequencies.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
# libjpeg's integer cosine transform as a matrix: sqrt(8) * 2**13 times the orthonormal
# one, with deviations up to 1.2 from its rounded constants.
_COSINES = np.array(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ],
    np.float32,
)
_BLOCK = 8
# libjpeg converts colours in units of 2**-16.
_UNIT = 65536.0
_HALF = 32768.0
# Optimized graphs divide by multiplying with reciprocals. With this margin a quotient
# of one half is still rounded up; all others differ from it by four times as much.
_MARGIN = 2.0**-13
# libjpeg repeats narrower chrominance instead of interpolating it.
_NARROWEST_SMOOTH = 3


class Rounding(NamedTuple):
    """How the codec rounds down, and how it rounds coefficients."""

    floor: Callable[[tf.Tensor], tf.Tensor]
    nearest: Callable[[tf.Tensor], tf.Tensor]


def _nearest(levels: tf.Tensor) -> tf.Tensor:
    """Rounds halves away from zero, as libjpeg does."""
    return tf.sign(levels) * tf.floor(tf.abs(levels) + 0.5 + _MARGIN)


def _soft_nearest(levels: tf.Tensor) -> tf.Tensor:
    """Rounds; the backward pass uses the cubic of Shin and Song 2017."""
    whole = tf.stop_gradient(_nearest(levels))
    return straight_through(whole + (levels - whole) ** 3, whole)


EXACT = Rounding(tf.floor, _nearest)
SOFT = Rounding(lambda x: straight_through(x, tf.floor(x)), _soft_nearest)


def quantization_tables(quality: int) -> np.ndarray:
    """Returns libjpeg's tables for luminance and chrominance.

    Args:
        quality: Integer in `[1, 100]`.

    Returns:
        Integers in `[1, 255]`, shape `(2, 8, 8)`.

    Example:

    >>> keras_advdef.layers._jpeg.quantization_tables(75)[0, 0].tolist()
    [8, 6, 5, 8, 12, 20, 26, 31]
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.array([_LUMINANCE, _CHROMINANCE])
    return np.clip((tables * scale + 50) // 100, 1, 255)


def compress(
    images: tf.Tensor, tables: tf.Tensor, *, subsampling: str, rounding: Rounding
) -> tf.Tensor:
    """Returns images after JPEG compression and decompression.

    Args:
        images: Float32 tensor in `[0, 1]`, shape `(batch, rows, cols, channels)` with
            1 or 3 channels; all but the batch size static.
        tables: Float32 tensor, shape `(batch or 1, 2, 8, 8)`.
        subsampling: "4:2:0" or "4:4:4".
        rounding: `EXACT`, which has no gradient, or `SOFT`.

    Returns:
        Tensor of the shape of `images`, multiples of 1/255 in `[0, 1]`.

    Example:

    >>> jpeg = keras_advdef.layers._jpeg
    >>> tables = tf.constant(jpeg.quantization_tables(75)[None], tf.float32)
    >>> grey = jpeg.compress(tf.fill((1, 8, 8, 1), 0.5), tables, subsampling="4:2:0",
    ...                      rounding=jpeg.EXACT)
    >>> np.unique(grey * 255).tolist()
    [128.0]
    """
    levels = rounding.floor(images * 255.0 + 0.5)
    if images.shape[-1] == 1:
        grey = _coded(levels[..., 0], tables[:, 0], rounding)
        return grey[..., tf.newaxis] / 255.0
    luminance, *chrominance = _from_rgb(levels, rounding)
    rows, columns = images.shape[1:3]
    halves = subsampling == "4:2:0"
    if halves:
        chrominance = [_halved(plane, rounding) for plane in chrominance]
    chrominance = [_coded(plane, tables[:, 1], rounding) for plane in chrominance]
    if halves:
        chrominance = [
            _doubled(plane, rows, columns, rounding) for plane in chrominance
        ]
    luminance = _coded(luminance, tables[:, 0], rounding)
    blue, red = chrominance
    return _to_rgb(luminance, blue, red, rounding) / 255.0


def _from_rgb(levels: tf.Tensor, rounding: Rounding) -> list[tf.Tensor]:
    red, green, blue = tf.unstack(levels, axis=-1)
    middle = 128.0 * _UNIT + _HALF - 1.0
    sums = (
        19595.0 * red + 38470.0 * green + 7471.0 * blue + _HALF,
        -11059.0 * red - 21709.0 * green + 32768.0 * blue + middle,
        32768.0 * red - 27439.0 * green - 5329.0 * blue + middle,
    )
    return [rounding.floor(total / _UNIT) for total in sums]


def _to_rgb(
    luminance: tf.Tensor, blue: tf.Tensor, red: tf.Tensor, rounding: Rounding
) -> tf.Tensor:
    blue, red = blue - 128.0, red - 128.0
    sums = (91881.0 * red, -22554.0 * blue - 46802.0 * red, 116130.0 * blue)
    channels = [luminance + rounding.floor((s + _HALF) / _UNIT) for s in sums]
    return tf.clip_by_value(tf.stack(channels, axis=-1), 0.0, 255.0)


def _padded(plane: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Repeats the last row and column up to a multiple of `rows` and `columns`."""
    below, right = -plane.shape[1] % rows, -plane.shape[2] % columns
    if below:
        plane = tf.concat([plane, *[plane[:, -1:]] * below], axis=1)
    if right:
        plane = tf.concat([plane, *[plane[:, :, -1:]] * right], axis=2)
    return plane


def _halved(plane: tf.Tensor, rounding: Rounding) -> tf.Tensor:
    """Averages 2x2 squares; halves are rounded up in every other column only."""
    plane = _padded(plane, 2, 2 * _BLOCK)
    upper, lower = plane[:, ::2], plane[:, 1::2]
    sums = upper[:, :, ::2] + upper[:, :, 1::2] + lower[:, :, ::2] + lower[:, :, 1::2]
    bias = tf.constant([1.0, 2.0] * (sums.shape[2] // 2))
    return rounding.floor((sums + bias) / 4.0)


def _doubled(
    plane: tf.Tensor, rows: int, columns: int, rounding: Rounding
) -> tf.Tensor:
    """Doubles a plane; per axis, the nearer pixel has weight 3 and the farther 1."""
    plane = plane[:, : (rows + 1) // 2, : (columns + 1) // 2]
    if plane.shape[2] < _NARROWEST_SMOOTH:
        plane = tf.repeat(tf.repeat(plane, 2, axis=1), 2, axis=2)
        return plane[:, :rows, :columns]
    above = tf.concat([plane[:, :1], plane[:, :-1]], axis=1)
    below = tf.concat([plane[:, 1:], plane[:, -1:]], axis=1)
    tall = tf.stack([3.0 * plane + above, 3.0 * plane + below], axis=2)
    tall = tf.reshape(tall, (-1, 2 * plane.shape[1], plane.shape[2]))
    left = tf.concat([tall[:, :, :1], tall[:, :, :-1]], axis=2)
    right = tf.concat([tall[:, :, 1:], tall[:, :, -1:]], axis=2)
    both = tf.stack([3.0 * tall + left + 8.0, 3.0 * tall + right + 7.0], axis=3)
    both = tf.reshape(
        rounding.floor(both / 16.0), (-1, tall.shape[1], 2 * tall.shape[2])
    )
    return both[:, :rows, :columns]


def _coded(plane: tf.Tensor, table: tf.Tensor, rounding: Rounding) -> tf.Tensor:
    """Transforms each block of a plane, quantises it and transforms it back."""
    rows, columns = plane.shape[1:3]
    plane = _padded(plane, _BLOCK, _BLOCK)
    height, width = plane.shape[1:3]
    shape = (-1, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    # Axes: n image, i and j block, r and c pixel, l and k frequency.
    blocks = tf.reshape(plane - 128.0, shape)
    steps = table[:, tf.newaxis, :, tf.newaxis]
    found = rounding.floor(
        (tf.einsum("nirjc,kc->nirjk", blocks, _COSINES) + 1024.0) / 2048.0
    )
    # Eight times the orthonormal coefficients.
    found = rounding.floor(
        (tf.einsum("nirjk,lr->niljk", found, _COSINES) + 16384.0) / 32768.0
    )
    found = rounding.nearest(found / (8.0 * steps)) * steps
    found = rounding.floor(
        (tf.einsum("niljk,lr->nirjk", found, _COSINES) + 1024.0) / 2048.0
    )
    found = rounding.floor(
        (tf.einsum("nirjk,kc->nirjc", found, _COSINES) + 131072.0) / 262144.0
    )
    decoded = tf.reshape(found, (-1, height, width))[:, :rows, :columns]
    return tf.clip_by_value(decoded + 128.0, 0.0, 255.0)
