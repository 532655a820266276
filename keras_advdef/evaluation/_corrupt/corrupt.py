"""corrupt: applies one of the fifteen common corruptions to images."""

from collections.abc import Callable

import numpy as np

from keras_advdef.evaluation._corrupt.blur import (
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from keras_advdef.evaluation._corrupt.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from keras_advdef.evaluation._corrupt.noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
)
from keras_advdef.evaluation._corrupt.strength import strength_of
from keras_advdef.evaluation._corrupt.weather import brightness, fog, frost, snow
from keras_advdef.evaluation._request.derived_seed import derived_seed

_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        frost,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
    )
}


def corrupt(
    images: np.ndarray, kind: str, severity: int, *, seed: int, first: int = 0
) -> np.ndarray:
    """Returns corrupted images.

    What is drawn for an image depends on the seed, the corruption and the image's
    number, not on the images beside it; and the severities share it.

    Args:
        images: Float32 array `(count, rows, cols, channels)` in `[0, 1]`.
        kind: One of `CORRUPTIONS`.
        severity: Integer in 1..5.
        seed: Fixes the draws.
        first: Number of the first of these images.

    Returns:
        Float32 array of the same shape in `[0, 1]`.

    Example:

    >>> from keras_advdef.evaluation._corrupt.corrupt import corrupt
    >>> image = np.array([0.0, 0.5, 0.5, 1.0], "float32").reshape(1, 2, 2, 1)
    >>> corrupt(image, "contrast", 2, seed=0).ravel()
    array([0.25, 0.5 , 0.5 , 0.75], dtype=float32)
    """
    strength = strength_of(kind, severity, min(images.shape[1:3]))
    function = _FUNCTIONS[kind]
    found = [
        function(image, _generator(seed, kind, number), **strength)
        for number, image in enumerate(images, first)
    ]
    return np.clip(np.stack(found), 0.0, 1.0).astype(np.float32)


def _generator(seed: int, kind: str, number: int) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, "corruption", kind, number))
