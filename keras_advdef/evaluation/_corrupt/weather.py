"""The corruptions by weather: snow, frost, fog and brightness."""

import numpy as np

from keras_advdef.evaluation._corrupt.resampling import blurred_along, zoomed

_LUMA = np.array([0.299, 0.587, 0.114])
_ICE = np.array([0.86, 0.95, 1.0])
# How the drawn frost looks: the decay of its patches, how many needles of one direction
# meet in a pixel on average, their length as a share of the image, and the directions.
_PATCHES = 1.35
_DENSITY = 0.2
_NEEDLE = 0.25
_DIRECTIONS = 5


def snow(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    mean: float,
    spread: float,
    flake: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
) -> np.ndarray:
    """Lets flakes fall through a scene that they also whiten.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the flakes.
        mean: Mean of the normal noise that the flakes are made of.
        spread: Its standard deviation.
        flake: Size of a flake, in pixels.
        threshold: Least noise that makes a flake.
        radius: Half of the length of a flake's trace, in pixels.
        sigma: Standard deviation of the weights along it, in pixels.
        kept: Share of the scene that is not whitened.
    """
    drawn = mean + spread * generator.standard_normal((*image.shape[:2], 1))
    # No flake is smaller than a pixel.
    flakes = zoomed(drawn, max(1.0, flake))
    flakes = np.where(flakes < threshold, 0.0, flakes).clip(0.0, 1.0)
    degrees = generator.uniform(-135.0, -45.0)
    flakes = blurred_along(flakes, radius=radius, sigma=sigma, degrees=degrees)
    white = np.maximum(image, 1.5 * _grey(image) + 0.5)
    # The same flakes once more, turned by half a turn.
    return kept * image + (1.0 - kept) * white + flakes + flakes[::-1, ::-1]


def _grey(image: np.ndarray) -> np.ndarray:
    is_colour = image.shape[-1] == len(_LUMA)
    return (image @ _LUMA)[..., None] if is_colour else image.mean(-1, keepdims=True)


def frost(
    image: np.ndarray, generator: np.random.Generator, *, kept: float, added: float
) -> np.ndarray:
    """Lays ice crystals over the image; they are drawn, where the paper has photos.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the crystals.
        kept: Weight of the image.
        added: Weight of the crystals.
    """
    ice = crystals(image.shape[0], image.shape[1], generator)
    is_colour = image.shape[-1] == len(_ICE)
    return kept * image + added * ice * (_ICE if is_colour else _ICE.mean())


def crystals(rows: int, cols: int, generator: np.random.Generator) -> np.ndarray:
    """Returns ice: needles in a few directions on cloudy patches.

    Args:
        rows: Height in pixels.
        cols: Width in pixels.
        generator: Draws them.

    Returns:
        Array `(rows, cols, 1)` in `[0, 1]`.
    """
    side = max(rows, cols)
    patches = plasma(side, _PATCHES, generator)[:rows, :cols, None]
    needles = np.zeros((rows, cols, 1))
    length = max(1.0, _NEEDLE * min(rows, cols) / 2)
    share = _DENSITY / (2.0 * length + 1.0)
    for degrees in generator.uniform(0.0, 360.0, _DIRECTIONS):
        seeds = (generator.random((rows, cols, 1)) < share) * 1.0
        grown = blurred_along(seeds, radius=length, sigma=length, degrees=degrees)
        needles = np.maximum(needles, grown * length)
    return np.clip(0.15 + 0.55 * patches + 0.6 * patches * needles, 0.0, 1.0)


def fog(
    image: np.ndarray, generator: np.random.Generator, *, added: float, decay: float
) -> np.ndarray:
    """Adds clouds and darkens all of it to the brightness that the image had.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Draws the clouds.
        added: Brightness of the thickest cloud.
        decay: How smooth the clouds are; see `plasma`.
    """
    rows, cols = image.shape[:2]
    clouds = plasma(max(rows, cols), decay, generator)[:rows, :cols, None]
    brightest = image.max()
    return (image + added * clouds) * brightest / (brightest + added)


def plasma(side: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Returns clouds by the diamond-square algorithm, from 0 to 1.

    Args:
        side: Least number of rows and columns.
        decay: How much smoother than the next larger features each is; the heights of
            the noise fall by its square, as published.
        generator: Draws the noise.

    Returns:
        Square array; its side is a power of two.
    """
    step = max(2, 1 << (side - 1).bit_length())
    heights = np.zeros((step, step))
    height = 1.0
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        drawn = height * generator.uniform(-1.0, 1.0, (3, *corners.shape))
        # The map is a torus: what leaves on one side enters on the other.
        across = corners + np.roll(corners, -1, axis=1)
        down = corners + np.roll(corners, -1, axis=0)
        middles = (across + np.roll(across, -1, axis=0)) / 4 + drawn[0]
        across = across + middles + np.roll(middles, 1, axis=0)
        down = down + middles + np.roll(middles, 1, axis=1)
        heights[half::step, half::step] = middles
        heights[::step, half::step] = across / 4 + drawn[1]
        heights[half::step, ::step] = down / 4 + drawn[2]
        step, height = half, height / decay**2
    heights -= heights.min()
    return heights / heights.max()


def brightness(
    image: np.ndarray, generator: np.random.Generator, *, added: float
) -> np.ndarray:
    """Raises the value of each colour, and keeps its hue and saturation.

    Args:
        image: Array `(rows, cols, channels)` in `[0, 1]`.
        generator: Not used.
        added: What is added to the largest channel.
    """
    del generator
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1.0)
    # Black has no hue: it becomes grey.
    is_black = value == 0.0
    return np.where(is_black, brighter, image * brighter / np.where(is_black, 1, value))
