"""The corruptions by blur: defocus, frosted glass, motion and zoom."""

import functools
import math

import numpy as np

from keras_advdef.evaluation._corrupt.resampling import blurred_along, zoomed

# A larger disk has a softer edge.
_LARGE_RADIUS = 8.0


def defocus_blur(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    radius: float,
    softness: float,
) -> np.ndarray:
    """Blurs by a disk, as a lens out of focus does.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Not used.
        radius: Radius of the disk, in pixels.
        softness: Standard deviation of the blur of its edge, in pixels.
    """
    del generator
    kernel = _disk(radius, softness)
    rows, cols = image.shape[:2]
    reach = len(kernel) // 2
    # `numpy.pad` reflects as often as a small image needs.
    around = ((reach, reach), (reach, reach), (0, 0))
    padded = np.pad(image, around, mode="reflect")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(kernel, s=size)[..., None]
    found = np.fft.rfft2(padded, axes=(0, 1)) * spectrum
    blurred = np.fft.irfft2(found, s=size, axes=(0, 1))
    return blurred[2 * reach :, 2 * reach :][:rows, :cols]


@functools.lru_cache(maxsize=64)
def _disk(radius: float, softness: float) -> np.ndarray:
    """A disk with a soft edge, of sum 1."""
    soft = 1 if radius <= _LARGE_RADIUS else 2
    reach = math.ceil(radius) + soft
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    # Pixels that the disk covers in part count in part, unlike in the published disk;
    # for the published radii both blur alike.
    disk = np.clip(radius + 0.5 - away, 0.0, 1.0)
    line = np.exp(-0.5 * (np.arange(-soft, soft + 1) / softness) ** 2)
    line /= line.sum()
    for _ in range(2):
        disk = np.stack([np.convolve(each, line, mode="same") for each in disk.T])
    return disk / disk.sum()


def glass_blur(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    sigma: float,
    reach: float,
    rounds: float,
) -> np.ndarray:
    """Shows at each pixel one of its neighbours, as frosted glass does.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the neighbours.
        sigma: Standard deviation of a blur before and after, in pixels.
        reach: Largest distance of a neighbour in rows and in columns, in pixels.
        rounds: How often pixels move.
    """
    rows, cols = image.shape[:2]
    image = _softened(image, sigma)
    for _ in range(int(rounds)):
        # As published, a reach of 2 means -2, -1, 0 or 1; a reach of 1 means -1 or 0.
        moved = generator.uniform(-reach, reach, (2, rows, cols))
        down, right = np.rint(moved - 0.5 * min(1.0, reach)).astype(int)
        row = np.clip(np.arange(rows)[:, None] + down, 0, rows - 1)
        col = np.clip(np.arange(cols) + right, 0, cols - 1)
        image = image[row, col]
    return _softened(image, sigma)


def _softened(image: np.ndarray, sigma: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(image, (sigma, sigma, 0.0), mode="nearest")


def motion_blur(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    radius: float,
    sigma: float,
) -> np.ndarray:
    """Smears within 45 degrees of the rows, as a moving camera does.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the direction.
        radius: Half of the length of the trace, in pixels.
        sigma: Standard deviation of its weights, in pixels.
    """
    degrees = generator.uniform(-45.0, 45.0)
    return blurred_along(image, radius=radius, sigma=sigma, degrees=degrees)


def zoom_blur(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    furthest: float,
    step: float,
) -> np.ndarray:
    """Averages the image and its magnifications, as when a camera moves forward.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Not used.
        furthest: Largest magnification, above 1.
        step: From one magnification to the next.
    """
    del generator
    count = round(furthest / step) + 1
    # The image itself counts twice, as published.
    total = image + sum(zoomed(image, 1.0 + step * index) for index in range(count))
    return total / (count + 1)
