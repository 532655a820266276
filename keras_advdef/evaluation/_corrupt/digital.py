"""The corruptions by processing: contrast, elastic, pixelation and JPEG."""

import numpy as np
import tensorflow as tf

from keras_advdef.evaluation._corrupt.resampling import box_matrix

_COLOURS = 3


def contrast(
    image: np.ndarray, generator: np.random.Generator, *, kept: float
) -> np.ndarray:
    """Moves all values towards the mean of their channel.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Not used.
        kept: Share of the distance that is kept.
    """
    del generator
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + kept * (image - mean)


def elastic_transform(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    reach: float,
    smoothness: float,
    shift: float,
) -> np.ndarray:
    """Distorts as if printed on rubber: an affine map and a smooth random field.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws map and field.
        reach: Largest displacement by the field before it is smoothed, in pixels.
        smoothness: Standard deviation of its smoothing, in pixels.
        shift: How far the three points that fix the affine map move, in pixels.
    """
    # Imported here: it is slow to import.
    from scipy import ndimage

    size = np.array(image.shape[:2])
    middle, away = size // 2, max(1, min(size) // 3)
    points = middle + away * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + generator.uniform(-shift, shift, (3, 2))
    field = generator.uniform(-1.0, 1.0, (2, *size))
    smooth = ndimage.gaussian_filter(field, (0, smoothness, smoothness), truncate=3.0)
    places = np.indices(tuple(size)) + reach * smooth
    # Where the pixels come from: the map from the moved points back.
    affine = np.linalg.solve(np.c_[moved, np.ones(3)], points)
    places = np.einsum("ij,ikl->jkl", affine[:2], places) + affine[2][:, None, None]
    channels = np.moveaxis(image, -1, 0)
    found = [
        ndimage.map_coordinates(channel, places, order=1, mode="reflect")
        for channel in channels
    ]
    return np.stack(found, axis=-1)


def pixelate(
    image: np.ndarray, generator: np.random.Generator, *, share: float
) -> np.ndarray:
    """Averages over boxes: down to a share of the size, and up again.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Not used.
        share: Share of the rows and columns that is left.
    """
    del generator
    for axis, size in enumerate(image.shape[:2]):
        fewer = max(1, int(share * size))
        matrix = box_matrix(fewer, size) @ box_matrix(size, fewer)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    return image


def jpeg_compression(
    image: np.ndarray, generator: np.random.Generator, *, quality: float
) -> np.ndarray:
    """Compresses with JPEG and decompresses.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`; channels are compressed one
            by one unless there are three.
        generator: Not used.
        quality: Integer in `[1, 100]`.
    """
    del generator
    whole = np.rint(255.0 * image).astype(np.uint8)
    is_colour = whole.shape[-1] == _COLOURS
    parts = [whole] if is_colour else np.split(whole, whole.shape[-1], axis=-1)
    coded = [_decoded(part, int(quality)) for part in parts]
    return np.concatenate(coded, axis=-1) / np.float32(255.0)


def _decoded(image: np.ndarray, quality: int) -> np.ndarray:
    kind = "rgb" if image.shape[-1] == _COLOURS else "grayscale"
    # On the processor: it has no other kernel, and the images are there.
    with tf.device("cpu"):
        code = tf.io.encode_jpeg(image, format=kind, quality=quality)
        return tf.io.decode_jpeg(code, dct_method="INTEGER_ACCURATE").numpy()
