"""Reads image files of one size into one array."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import check_memory, check_regular, reading

_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# A photograph with a preview or a second view, which Pillow counts as frames.
_STILL_FORMATS = ("MPO",)


def _rejected(rule: str, value: Any, advice: str) -> ValueError:
    return invalid("keras-advdef", "--data", rule, value, advice=advice)


@dataclasses.dataclass(frozen=True)
class _Header:
    """What an image file says of itself before its pixels are read.

    Its orientation is not there: some formats keep it behind the pixels.
    """

    rows: int
    columns: int
    mode: str
    frames: int

    @property
    def channels(self) -> int:
        """One for shades of grey, else three."""
        return 1 if self.mode in _GREY_MODES else 3


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an image with Pillow, whose errors are turned into a refusal."""
    from PIL import Image

    def refuse(advice: str) -> ValueError:
        return _rejected("a folder of readable images", str(path), advice)

    check_regular(path, refuse)
    bomb = (Image.DecompressionBombError,)
    advice = "Remove or replace it ({})."
    with reading(refuse, advice, also=bomb), warnings.catch_warnings():
        # Pillow warns of sizes that `check_memory` judges.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            yield image


def _header(path: Path) -> _Header:
    """Returns the header of an image, or raises where its pixels cannot be taken."""
    with _opened(path) as image:
        columns, rows = image.size
        is_still = image.format in _STILL_FORMATS
        frames = 1 if is_still else getattr(image, "n_frames", 1)
        header = _Header(rows, columns, image.mode, frames)
    if header.mode not in (*_GREY_MODES, *_COLOUR_MODES):
        advice = f"Convert it to 8 bits a channel; its mode is {header.mode}."
        raise _rejected("a folder of 8-bit images", str(path), advice)
    if header.frames > 1:
        advice = f"It holds {header.frames} frames; save those you mean one by one."
        raise _rejected("a folder of still images", str(path), advice)
    return header


def _pixels(path: Path, channels: int) -> np.ndarray:
    """Returns one image as it is looked at, uint8, `(rows, cols, channels)`."""
    from PIL import ImageOps

    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def read_images(paths: Sequence[Path]) -> np.ndarray:
    """Reads images of one size, and looks at all their headers first.

    Args:
        paths: The files, one at least.

    Returns:
        Array of shape `(count, rows, cols, channels)`, uint8, in colour if one of the
        images is; turned as their EXIF orientation says.

    Raises:
        ValueError: If an image cannot be read, moves or has more than 8 bits a
            channel, if sizes differ, or if they would not fit into memory.
    """
    headers = [_header(path) for path in paths]
    channels = max(header.channels for header in headers)

    def refuse(advice: str) -> ValueError:
        rows, columns = headers[0].rows, headers[0].columns
        value = f"{len(paths)} images, the first of {columns}x{rows}"
        return _rejected("a folder of images that fit into memory", value, advice)

    # As bytes here, and as 32-bit floats for the model.
    total = 5 * channels * sum(header.rows * header.columns for header in headers)
    check_memory(total, "Their pixels", refuse)
    first = _pixels(paths[0], channels)
    images = np.empty((len(paths), *first.shape), np.uint8)
    for row, path in enumerate(paths):
        pixels = _pixels(path, channels)
        if pixels.shape != first.shape:
            rows, columns = first.shape[:2]
            advice = f"{paths[0]} is {columns}x{rows}; resize them alike."
            value = f"{path} of {pixels.shape[1]}x{pixels.shape[0]}"
            raise _rejected("a folder of images of one size", value, advice)
        images[row] = pixels
    return images
