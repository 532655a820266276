"""Reads folders of images with one subfolder a class."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.cli.dataset import Dataset
from keras_advdef.cli.stratified_split import stratified_split
from keras_advdef.core.errors import invalid

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_TEST_SHARE = 0.2
_SPLIT_SEED = 0


def _rejected(rule: str, value: Any, advice: str) -> ValueError:
    return invalid("keras-advdef", "--data", rule, value, advice=advice)


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Returns the image files of each class, classes and files in name order."""
    rule = "a folder with one subfolder of images for each of two or more classes"
    subfolders = sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__"))
    )
    if len(subfolders) < 2:
        advice = f"It has {len(subfolders)} subfolders; sort the images into classes."
        raise _rejected(rule, str(folder), advice)
    files = {
        subfolder.name: sorted(
            path for path in subfolder.iterdir() if path.suffix.lower() in _SUFFIXES
        )
        for subfolder in subfolders
    }
    for name, paths in files.items():
        if len(paths) < 2:
            advice = f"Class {name!r} has {len(paths)} images and needs two or more."
            raise _rejected(rule, str(folder), advice)
    return files


def _read_image(path: Path) -> np.ndarray:
    """Returns one image, uint8, of shape (rows, cols, 1) or (rows, cols, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in _GREY_MODES:
                return np.asarray(image.convert("L"))[..., np.newaxis]
            if image.mode in _COLOUR_MODES:
                return np.asarray(image.convert("RGB"))
            mode = image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        advice = f"Remove or replace it ({error})."
        raise _rejected("a folder of readable images", str(path), advice) from error
    advice = f"Convert it to 8 bits a channel; its mode is {mode}."
    raise _rejected("a folder of 8-bit images", str(path), advice)


def _stacked(paths: list[Path]) -> np.ndarray:
    """Returns all images in one array, in colour if one of them is."""
    images = [_read_image(path) for path in paths]
    size = images[0].shape[:2]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != size:
            advice = f"{paths[0]} is {size[1]}x{size[0]}; resize them alike."
            value = f"{path} of {image.shape[1]}x{image.shape[0]}"
            raise _rejected("a folder of images of one size", value, advice)
    channels = max(image.shape[-1] for image in images)
    return np.stack([np.broadcast_to(image, (*size, channels)) for image in images])


def load_image_folder(spec: str) -> Dataset:
    """Loads a folder of images, a fifth of them for testing.

    The split is the same every time. Files that are no images by their name are
    passed over.

    Args:
        spec: Path of a folder with one subfolder a class.

    Returns:
        The data set, named by `spec`; classes are numbered in name order.

    Raises:
        ValueError: If classes or images are missing, an image cannot be read, or
            images differ in size.
    """
    files = _class_files(Path(spec))
    paths = [path for group in files.values() for path in group]
    labels = np.repeat(np.arange(len(files)), [len(group) for group in files.values()])
    images = _stacked(paths)
    test_count = max(round(_TEST_SHARE * len(labels)), len(files))
    train, test = stratified_split(labels, test_count=test_count, seed=_SPLIT_SEED)
    return Dataset.from_arrays(
        spec,
        x_train=images[train],
        y_train=labels[train],
        x_test=images[test],
        y_test=labels[test],
    )
