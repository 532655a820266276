"""Reads image files of one size into one array."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import check_memory, opened, reading

# Pillow looks at the contents, not at the name, and takes what would run programs
# (EPS) or lies in formats that nobody means here.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# A photograph with a preview or a second view, which Pillow counts as frames.
_STILL_FORMATS = ("MPO",)
_MOST_LEVEL = 255
# 32-bit floats, and a copy of them in another order.
_BYTES = 8


def _rejected(rule: str, value: Any, advice: str) -> ValueError:
    return invalid("keras-advdef", "--data", rule, value, advice=advice)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    """What an image file says of itself before its pixels are read.

    Its orientation is not there: some formats keep it behind the pixels.
    """

    rows: int
    columns: int
    mode: str
    has_deep_pixels: bool
    is_animated: bool

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

    bomb = (Image.DecompressionBombError,)
    advice = "Remove or replace it ({})."
    with (
        opened(path, refuse) as file,
        reading(refuse, advice, also=bomb),
        warnings.catch_warnings(),
    ):
        # Pillow warns of sizes that `check_memory` judges.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # Of the path, Pillow would map the pixels of a TIFF file and turn them wrongly.
        with Image.open(file, formats=_FORMATS) as image:
            yield image


def _header(path: Path) -> _Header:
    """Returns the header of an image, or raises where its pixels cannot be taken."""
    with _opened(path) as image:
        columns, rows = image.size
        header = _Header(
            rows=rows,
            columns=columns,
            mode=image.mode,
            has_deep_pixels=_has_deep_pixels(image),
            is_animated=image.format not in _STILL_FORMATS
            # Counting all frames may take minutes.
            and getattr(image, "is_animated", False),
        )
    if header.mode not in (*_GREY_MODES, *_COLOUR_MODES) or header.has_deep_pixels:
        found = "16 bits" if header.has_deep_pixels else f"the mode {header.mode}"
        advice = f"Convert it to 8 bits a channel; it has {found}."
        raise _rejected("a folder of 8-bit images", str(path), advice)
    if header.is_animated:
        advice = "It holds several frames; save those you mean one by one."
        raise _rejected("a folder of still images", str(path), advice)
    return header


def _has_deep_pixels(image: Any) -> bool:
    """Whether Pillow would make 8 bits of more, from what it hands its decoder."""
    given: list[Any] = []
    for tile in image.tile:
        given += tile.args if isinstance(tile.args, tuple) else [tile.args]
    if image.format == "PPM":
        return any(isinstance(each, int) and each > _MOST_LEVEL for each in given)
    # "RGB;16B"; of other formats ";16" says that a pixel of 3 channels has 16 bits.
    deep = image.format in ("PNG", "TIFF")
    return deep and any(isinstance(each, str) and ";16" in each for each in given)


def _pixels(path: Path, channels: int) -> tuple[np.ndarray, bool]:
    """Returns one image as it is looked at, and whether it is transparent somewhere.

    The array is uint8, of shape `(rows, cols, channels)`.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
        is_transparent = False
        if upright.has_transparency_data:
            opacity = np.asarray(upright.convert("RGBA").getchannel("A"))
            is_transparent = bool(opacity.min() < _MOST_LEVEL)
    return pixels.reshape(*pixels.shape[:2], channels), is_transparent


def read_images(paths: Sequence[Path]) -> np.ndarray:
    """Reads images of one size, and looks at all their headers first.

    A warning says where images are transparent: their colours are taken as they are
    stored, also where nobody sees them.

    Args:
        paths: The files, one at least.

    Returns:
        Array of shape `(count, rows, cols, channels)`, float32 in `[0, 1]`, in colour
        if one of the images is; turned as their EXIF orientation says.

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

    total = _BYTES * channels * sum(header.rows * header.columns for header in headers)
    check_memory(total, "Their pixels", refuse)
    first, _ = _pixels(paths[0], channels)
    images = np.empty((len(paths), *first.shape), np.float32)
    transparent = []
    for row, path in enumerate(paths):
        pixels, is_transparent = _pixels(path, channels)
        if pixels.shape != first.shape:
            rows, columns = first.shape[:2]
            advice = f"{paths[0]} is {columns}x{rows}; resize them alike."
            value = f"{path} of {pixels.shape[1]}x{pixels.shape[0]}"
            raise _rejected("a folder of images of one size", value, advice)
        images[row] = pixels
        transparent += [path] * is_transparent
    images /= np.float32(_MOST_LEVEL)
    if transparent:
        warnings.warn(
            f"Of {len(paths)} images, {len(transparent)} are transparent in places, "
            f"the first {transparent[0]}. Their colours are taken as they are stored. "
            "If a background belongs behind them, save them with it.",
            stacklevel=2,
        )
    return images
