"""Reads image files of equal size into one array."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_advdef.core.data.argument_name import refused
from keras_advdef.core.untrusted import check_memory, open_regular_file, read_errors_as

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Pillow goes by the contents, not by the name. It would also open formats that run
# programs (EPS) or that nobody wants here.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# Photographs with a preview or a second view, which Pillow counts as frames.
_STILL_FORMATS = ("MPO",)
_MOST_LEVEL = 255
# 32-bit floats, and a reordered copy of them.
_BYTES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    """What an image file says about itself before its pixels are read.

    The orientation is missing, since some formats store it after the pixels.
    """

    rows: int
    columns: int
    mode: str
    has_deep_pixels: bool
    is_animated: bool

    @property
    def channels(self) -> int:
        """One for greyscale, else three."""
        return 1 if self.mode in _GREY_MODES else 3


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["ImageFile"]:
    """Opens an image with Pillow and turns Pillow's errors into our own."""
    from PIL import Image

    def refuse(advice: str) -> ValueError:
        return refused("a folder of readable images", str(path), advice)

    bomb = (Image.DecompressionBombError,)
    advice = "Remove or replace it ({})."
    with (
        open_regular_file(path, refuse) as file,
        read_errors_as(refuse, advice, also=bomb),
        warnings.catch_warnings(),
    ):
        # `check_memory` judges the sizes that Pillow warns about.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # Given a path, Pillow would memory-map a TIFF file and rotate it wrongly.
        with Image.open(file, formats=_FORMATS) as image:
            yield image


def _header(path: Path) -> _Header:
    """Returns the header of an image; raises if its pixels cannot be used."""
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
        advice = f"Convert it to 8 bits per channel; it has {found}."
        raise refused("a folder of 8-bit images", str(path), advice)
    if header.is_animated:
        advice = "It has several frames; save the ones you want as single images."
        raise refused("a folder of still images", str(path), advice)
    return header


def _has_deep_pixels(image: "ImageFile") -> bool:
    """Returns whether Pillow would cut pixels to 8 bits, by its decoder's arguments."""
    given: list[object] = []
    for tile in image.tile:
        given += tile.args if isinstance(tile.args, tuple) else [tile.args]
    if image.format == "PPM":
        return any(isinstance(each, int) and each > _MOST_LEVEL for each in given)
    # As in "RGB;16B"; in other formats ";16" means 16 bits for a pixel of 3 channels.
    deep = image.format in ("PNG", "TIFF")
    return deep and any(isinstance(each, str) and ";16" in each for each in given)


def _pixels(path: Path, channels: int) -> tuple[np.ndarray, bool]:
    """Returns one image the right way up, and whether it has transparent pixels.

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
    """Reads images of equal size, after a check of all their headers.

    Transparent images give a warning: their stored colours are used, even where they
    are invisible.

    Args:
        paths: The files, at least one.

    Returns:
        Array of shape `(count, rows, cols, channels)`, float32 in `[0, 1]`, in colour
        if any image is, and rotated as the EXIF orientation says.

    Raises:
        ValueError: If an image cannot be read, is animated or has more than 8 bits per
            channel, if sizes differ, or if the images do not fit into memory.
    """
    headers = [_header(path) for path in paths]
    channels = max(header.channels for header in headers)

    def refuse(advice: str) -> ValueError:
        rows, columns = headers[0].rows, headers[0].columns
        value = f"{len(paths)} images, the first of {columns}x{rows}"
        return refused("a folder of images that fit into memory", value, advice)

    total = _BYTES * channels * sum(header.rows * header.columns for header in headers)
    check_memory(total, "Their pixels", refuse)
    first, _ = _pixels(paths[0], channels)
    images = np.empty((len(paths), *first.shape), np.float32)
    transparent = []
    for row, path in enumerate(paths):
        pixels, is_transparent = _pixels(path, channels)
        if pixels.shape != first.shape:
            rows, columns = first.shape[:2]
            advice = f"{paths[0]} is {columns}x{rows}; resize them to one size."
            value = f"{path} of {pixels.shape[1]}x{pixels.shape[0]}"
            raise refused("a folder of images of one size", value, advice)
        images[row] = pixels
        transparent += [path] * is_transparent
    images /= np.float32(_MOST_LEVEL)
    if transparent:
        warnings.warn(
            f"Of {len(paths)} images, {len(transparent)} are transparent in places, "
            f"the first {transparent[0]}. Their colours are used as stored. "
            "If they need a background, save them with it.",
            stacklevel=2,
        )
    return images
