"""Reads `.npz` files in the layout of keras.datasets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_advdef.core.data.argument_name import refused
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.data.labelled_images import LabelledImages
from keras_advdef.core.untrusted import read_npz

_TEST = ("x_test", "y_test")
_ALL = ("x_train", "y_train", *_TEST)


def _arrays(spec: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    rule = f"a .npz file with the arrays {', '.join(names[:-1])} and {names[-1]}"

    def refuse(advice: str) -> ValueError:
        return refused(rule, spec, advice)

    return read_npz(Path(spec), refuse, names=names)


def load_npz(spec: str) -> Dataset:
    """Loads a data set from a `.npz` file.

    Pickled objects are never loaded.

    Args:
        spec: Path of the file.

    Returns:
        The data set, named `spec`.

    Raises:
        ValueError: If the file cannot be opened, is damaged, lacks an array, holds
            objects, or the arrays do not match.
    """
    arrays = _arrays(spec, _ALL)
    x_train, y_train, x_test, y_test = (arrays[name] for name in _ALL)
    return Dataset.from_arrays(
        spec, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test
    )


def load_npz_test_images(spec: str) -> LabelledImages:
    """Loads all test images of a data set in a `.npz` file.

    Args:
        spec: Path of the file; it need not have arrays for training.

    Returns:
        The images.

    Raises:
        ValueError: As `load_npz`.
    """
    arrays = _arrays(spec, _TEST)
    return LabelledImages.from_arrays(
        spec,
        images=arrays["x_test"],
        labels=arrays["y_test"],
        source=f"x_test in {spec}",
    )
