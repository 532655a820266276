"""Finds the data set that a user names."""

from pathlib import Path

import numpy as np

from keras_advdef.cli.dataset import Dataset
from keras_advdef.cli.load_image_folder import load_image_folder
from keras_advdef.cli.load_keras_dataset import load_keras_dataset
from keras_advdef.cli.load_npz import load_npz
from keras_advdef.cli.stratified_split import stratified_split
from keras_advdef.core.errors import invalid

_KERAS_NAMES = ("mnist", "fashion_mnist", "cifar10")
_DIGITS_TEST_COUNT = 400
_DIGITS_LEVELS = 16
_SPLIT_SEED = 0


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
    """Loads the data set that `--data` names.

    Args:
        spec: "digits" (scikit-learn's handwritten digits, 8x8, needs no network),
            "mnist", "fashion_mnist" or "cifar10" (downloaded by Keras), the path of
            a `.npz` file in the layout of keras.datasets, or the path of a folder of
            images with one subfolder a class.

    Returns:
        The data set; images float32 in `[0, 1]`, labels int64.

    Raises:
        ValueError: If the name is unknown, the path does not exist, or what lies
            there cannot be used.
        OSError: If a download or reading fails.

    Example:

    >>> from keras_advdef.cli.datasets import load_dataset
    >>> dataset = load_dataset("digits")
    >>> dataset.x_train.shape, dataset.x_test.shape, dataset.classes
    ((1397, 8, 8, 1), (400, 8, 8, 1), 10)
    """
    if spec == "digits":
        return _load_digits()
    if spec in _KERAS_NAMES:
        return load_keras_dataset(spec)
    path = Path(spec)
    if spec and path.is_dir():
        return load_image_folder(spec)
    if path.is_file():
        return load_npz(spec)
    names = ", ".join(("digits", *_KERAS_NAMES))
    rule = f"one of {names}, or an existing .npz file or folder of images"
    raise invalid("keras-advdef", "--data", rule, spec, advice="Check the path.")
