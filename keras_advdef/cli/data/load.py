"""Loads what `--data` names."""

import dataclasses

import numpy as np

from keras_advdef.cli.data._keras_datasets import load_keras_dataset
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.data.image_folder import (
    load_folder_test_images,
    load_image_folder,
)
from keras_advdef.core.data.labelled_images import LabelledImages
from keras_advdef.core.data.npz import load_npz, load_npz_test_images
from keras_advdef.core.stratified_split import stratified_split
from keras_advdef_command.paths import BUNDLED, DOWNLOADED, is_data_folder

_DIGITS_TEST_COUNT = 400
_DIGITS_LEVELS = 16
_SPLIT_SEED = 0
# In the order of their numbers; the other data sets are of digits.
_CLASSES = {
    "fashion_mnist": (
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
}


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / _DIGITS_LEVELS).astype(np.float32)
    train, test = stratified_split(
        digits.target, test_count=_DIGITS_TEST_COUNT, seed=_SPLIT_SEED
    )
    return Dataset.from_arrays(
        "digits",
        x_train=images[train],
        y_train=digits.target[train],
        x_test=images[test],
        y_test=digits.target[test],
    )


def load_dataset(spec: str) -> Dataset:
    """Loads the training and test images that `--data` names.

    Args:
        spec: "digits" (scikit-learn's 8x8 handwritten digits, needs no network),
            "mnist", "fashion_mnist" or "cifar10" (downloaded by Keras), the path of
            a `.npz` file in the layout of keras.datasets, or the path of a folder of
            images with one subfolder per class.

    Returns:
        The data set; images float32 in `[0, 1]`, labels int64.

    Raises:
        ValueError: If the name is unknown, the path does not exist, or the data cannot
            be used.
        OSError: If the download fails or a file cannot be read.

    Example:

    >>> from keras_advdef.cli.data.load import load_dataset
    >>> dataset = load_dataset("digits")
    >>> dataset.x_train.shape, dataset.x_test.shape, dataset.classes
    ((1397, 8, 8, 1), (400, 8, 8, 1), 10)
    """
    if spec in BUNDLED:
        return _load_digits()
    if spec in DOWNLOADED:
        names = _CLASSES.get(spec, ())
        return dataclasses.replace(load_keras_dataset(spec), class_names=names)
    if is_data_folder(spec):
        return load_image_folder(spec)
    return load_npz(spec)


def load_test_images(spec: str) -> LabelledImages:
    """Loads the images that `--data` names for an evaluation.

    Args:
        spec: As in `load_dataset`. From a `.npz` file, x_test and y_test are used; from
            a folder, its `test/` if it has one, else everything.

    Returns:
        The images, float32 in `[0, 1]`, and their labels.

    Raises:
        ValueError: As `load_dataset`.
        OSError: As `load_dataset`.

    Example:

    >>> from keras_advdef.cli.data.load import load_test_images
    >>> load_test_images("digits").description
    'all 400 images of the test part of digits'
    """
    if spec in (*BUNDLED, *DOWNLOADED):
        dataset = load_dataset(spec)
        return LabelledImages.from_arrays(
            spec,
            images=dataset.x_test,
            labels=dataset.y_test,
            source=f"the test part of {spec}",
            classes=dataset.class_names,
        )
    if is_data_folder(spec):
        return load_folder_test_images(spec)
    return load_npz_test_images(spec)
