"""CIFAR-10 for the benchmarks of strength."""

import keras
import numpy as np

_SMOKE = 64


def cifar10(
    data: str | None, *, images: int | None = None, tests: int, smoke: bool
) -> tuple[np.ndarray, ...]:
    """Returns training and test images in `[0, 1]`, each with their labels.

    Args:
        data: `.npz` in the layout of `keras.datasets`; `None` lets Keras download it.
        images: Number of training images, from the first on; `None` for all.
        tests: Number of test images, from the first on.
        smoke: Whether to use a few random images for both.
    """
    if smoke:
        generator = np.random.default_rng(0)
        made = generator.random((_SMOKE, 32, 32, 3), dtype=np.float32)
        labels = generator.integers(0, 10, _SMOKE)
        return made, labels, made, labels
    if data is None:
        (x, y), (xt, yt) = keras.datasets.cifar10.load_data()
    else:
        with np.load(data) as file:
            x, y, xt, yt = (
                file[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
    x, xt = ((each / 255).astype(np.float32) for each in (x[:images], xt[:tests]))
    y, yt = (each.reshape(-1).astype(np.int64) for each in (y[:images], yt[:tests]))
    return x, y, xt, yt
