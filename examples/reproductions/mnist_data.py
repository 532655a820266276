"""MNIST as the reproductions use it: floats in [0, 1] with one channel."""

from typing import Any, NamedTuple

import keras
import numpy as np

_SMOKE_IMAGES = 64


class Mnist(NamedTuple):
    """Training and test images `(count, 28, 28, 1)` in `[0, 1]`, with their labels."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_mnist(path: str | None, *, smoke: bool = False) -> Mnist:
    """Loads MNIST from an .npz file or through Keras.

    Args:
        path: File in the layout of `keras.datasets`; `None` to let Keras download it.
        smoke: Whether to use only a few images; without a file they are noise, so that
            a test needs no network.

    Returns:
        The data.
    """
    if path is not None:
        names = ("x_train", "y_train", "x_test", "y_test")
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in names]
    elif smoke:
        arrays = [*_noise(seed=0), *_noise(seed=1)]
    else:
        train, test = keras.datasets.mnist.load_data()
        arrays = [*train, *test]
    if smoke:
        arrays = [array[:_SMOKE_IMAGES] for array in arrays]
    return Mnist(_scaled(arrays[0]), arrays[1], _scaled(arrays[2]), arrays[3])


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.reshape(-1, 28, 28, 1).astype("float32") / 255.0


def _noise(seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (_SMOKE_IMAGES, 28, 28), dtype=np.uint8)
    return images, generator.integers(0, 10, _SMOKE_IMAGES, dtype=np.uint8)
