"""The corruptions by noise: Gaussian, shot and impulse noise."""

import numpy as np


def gaussian_noise(
    image: np.ndarray, generator: np.random.Generator, *, stddev: float
) -> np.ndarray:
    """Adds normal noise, as in poor light.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the noise.
        stddev: Its standard deviation.
    """
    return image + stddev * generator.standard_normal(image.shape)


def shot_noise(
    image: np.ndarray, generator: np.random.Generator, *, photons: float
) -> np.ndarray:
    """Counts photons: noise that grows with the root of the brightness.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the counts.
        photons: Expected count of a white pixel.
    """
    return generator.poisson(image.astype(np.float64) * photons) / photons


def impulse_noise(
    image: np.ndarray, generator: np.random.Generator, *, share: float
) -> np.ndarray:
    """Makes some values black and as many white (salt and pepper).

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws which.
        share: Share of the values that change.
    """
    chance = generator.random(image.shape)
    white = np.where(chance > 1.0 - share / 2, 1.0, image)
    return np.where(chance < share / 2, 0.0, white)
