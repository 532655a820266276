"""A tiny data set in the layout of keras.datasets."""

import numpy as np


def two_classes():
    """Two classes, dark and bright, in the layout of keras.datasets."""
    generator = np.random.default_rng(0)
    labels = {"train": np.arange(40) % 2, "test": np.arange(12) % 2}
    images = {
        part: (
            generator.integers(0, 100, (len(values), 6, 5))
            + 150 * values[:, np.newaxis, np.newaxis]
        ).astype(np.uint8)
        for part, values in labels.items()
    }
    return {
        "x_train": images["train"],
        "y_train": labels["train"].astype(np.uint8),
        "x_test": images["test"],
        "y_test": labels["test"].astype(np.uint8),
    }
