"""Reads folders of images with one subfolder per class."""

from pathlib import Path

import numpy as np

from keras_advdef.core.data._read_images import read_images
from keras_advdef.core.data.argument_name import refused
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.data.labelled_images import LabelledImages
from keras_advdef.core.stratified_split import stratified_order, stratified_split
from keras_advdef.core.untrusted import read_errors_as

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_PARTS = ("train", "test")
_TEST_SHARE = 0.2
_SPLIT_SEED = 0
_LISTED = 10


def _entries(folder: Path) -> list[Path]:
    def refuse(advice: str) -> ValueError:
        return refused("a folder that can be read", str(folder), advice)

    with read_errors_as(refuse, "It cannot be listed: {}."):
        return sorted(folder.iterdir())


def _subfolders(folder: Path) -> list[Path]:
    return [
        entry
        for entry in _entries(folder)
        if entry.is_dir() and not entry.name.startswith((".", "__"))
    ]


def _class_files(folder: Path, *, least: int) -> dict[str, list[Path]]:
    """Returns the image files of each class; classes and files are sorted by name."""
    rule = "a folder with one subfolder of images for each of two or more classes"
    subfolders = _subfolders(folder)
    if len(subfolders) < 2:
        plural = "" if len(subfolders) == 1 else "s"
        advice = f"It has {len(subfolders)} subfolder{plural}; sort the images into "
        advice += "classes."
        for only in subfolders:
            if _subfolders(only):
                advice += f" If the folders in {only} are the classes, pass {only}."
        raise refused(rule, str(folder), advice)
    files = {
        subfolder.name: [
            path for path in _entries(subfolder) if path.suffix.lower() in _SUFFIXES
        ]
        for subfolder in subfolders
    }
    for name, paths in files.items():
        if len(paths) < least:
            advice = f"Class {name!r} has {len(paths)} images and needs {least}."
            if _subfolders(folder / name):
                advice += f" If its folders are the classes, pass {folder / name}."
            raise refused(rule, str(folder), advice)
    return files


def _has_part(folder: Path, part: str) -> bool:
    """Returns whether a subfolder is a part of the data, not a class of that name."""
    return (folder / part).is_dir() and bool(_subfolders(folder / part))


def _flat(files: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in files.values() for path in paths]


def _numbers(files: dict[str, list[Path]], classes: list[str]) -> np.ndarray:
    """Returns the class number of each file, class by class."""
    numbers = [classes.index(name) for name in files]
    return np.repeat(numbers, [len(paths) for paths in files.values()])


def _test_files(folder: Path, classes: list[str]) -> dict[str, list[Path]]:
    files = _class_files(folder / "test", least=1)
    unknown = [name for name in files if name not in classes]
    if unknown:
        rule = "a folder whose test/ has the classes of train/"
        advice = f"train/ lacks {', '.join(unknown[:_LISTED])}."
        raise refused(rule, str(folder), advice)
    return files


def load_image_folder(spec: str) -> Dataset:
    """Loads a folder of images for training and testing.

    If there are subfolders `train/` and `test/`, these are the two parts. Otherwise a
    fifth of the images is held out for testing, stratified by class and the same every
    time. Files without the suffix of an image are ignored.

    Args:
        spec: Path of a folder with one subfolder per class, or with `train/` and
            `test/` sorted that way.

    Returns:
        The data set, named `spec`; classes are numbered in the order of their names.

    Raises:
        ValueError: If classes or images are missing, an image cannot be read, or
            image sizes differ.
    """
    folder = Path(spec)
    if all(_has_part(folder, part) for part in _PARTS):
        files = _class_files(folder / "train", least=1)
        classes = list(files)
        test_files = _test_files(folder, classes)
        labels = _numbers(files, classes)
        images = read_images([*_flat(files), *_flat(test_files)])
        return Dataset.from_arrays(
            spec,
            x_train=images[: len(labels)],
            y_train=labels,
            x_test=images[len(labels) :],
            y_test=_numbers(test_files, classes),
            class_names=tuple(classes),
        )
    files = _class_files(folder, least=2)
    images, labels = read_images(_flat(files)), _numbers(files, list(files))
    test_count = max(round(_TEST_SHARE * len(labels)), len(files))
    train, test = stratified_split(labels, test_count=test_count, seed=_SPLIT_SEED)
    return Dataset.from_arrays(
        spec,
        x_train=images[train],
        y_train=labels[train],
        x_test=images[test],
        y_test=labels[test],
        class_names=tuple(files),
    )


def load_folder_test_images(spec: str) -> LabelledImages:
    """Loads all images of a folder, or only its `test/` if it has one.

    Args:
        spec: As in `load_image_folder`.

    Returns:
        The images in a random order whose first n are stratified by class for every
        n, since evaluations with a small budget use the first ones. Classes are
        numbered in the order of their names, those in `train/` if it exists.

    Raises:
        ValueError: As `load_image_folder`.
    """
    folder = Path(spec)
    if _has_part(folder, "test"):
        source = folder / "test"
        has_train = _has_part(folder, "train")
        named = _class_files(folder / "train" if has_train else source, least=1)
        classes = list(named)
        files = _test_files(folder, classes)
    else:
        source, files = folder, _class_files(folder, least=1)
        classes = list(files)
    images, labels = read_images(_flat(files)), _numbers(files, classes)
    order = stratified_order(labels, seed=_SPLIT_SEED)
    return LabelledImages.from_arrays(
        spec,
        images=images[order],
        labels=labels[order],
        source=str(source),
        classes=tuple(classes),
    )
