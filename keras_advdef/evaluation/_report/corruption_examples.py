"""The file of one image under each corruption, for the picture of a report."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.untrusted import Refusal, read_npz
from keras_advdef.evaluation._report.page_images import reduced

_RANK = 3


def save_examples(path: Path, examples: Mapping[str, np.ndarray]) -> None:
    """Writes images, reduced to what a page shows.

    Args:
        path: A .npz file.
        examples: Images in `[0, 1]`, channels last, by the name of their corruption.
    """
    whole: dict[str, Any] = {
        name: np.rint(255.0 * reduced(image)).astype(np.uint8)
        for name, image in examples.items()
    }
    np.savez_compressed(path, **whole)


def load_examples(
    path: Path, refuse: Refusal, *, names: Iterable[str]
) -> dict[str, np.ndarray]:
    """Returns what `save_examples` wrote.

    Args:
        path: A .npz file.
        refuse: Turns a sentence into the error to raise.
        names: Names of the corruptions.

    Raises:
        Exception: The error made by `refuse`, if the file is damaged.
    """
    arrays = read_npz(path, refuse, names=[*names])
    shapes = {array.shape for array in arrays.values()}
    fits = all(array.dtype == np.uint8 for array in arrays.values())
    for shape in shapes:
        fits &= len(shape) == _RANK and 0 not in shape
    if not fits or len(shapes) != 1:
        raise refuse("Its arrays are not images of one shape.")
    return {name: array / np.float32(255.0) for name, array in arrays.items()}
