"""The network and the data that the benchmarks run on."""

import argparse
from pathlib import Path

import keras
import numpy as np


def madry_network() -> keras.Model:
    """Returns the MNIST network of Madry et al. 2018, which ends in logits."""
    layers = keras.layers
    convolution = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, **convolution),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, **convolution),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10),
        ]
    )


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images in `[0, 1]` and labels; the time does not depend on them.

    Args:
        count: Number of images.
    """
    generator = np.random.default_rng(0)
    images = generator.random((count, 28, 28, 1), dtype=np.float32)
    return images, generator.integers(0, 10, count)


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--model` and `--data`, read by `network` and `images_and_labels`."""
    parser.add_argument(
        "--model", type=Path, help="a .keras file of an MNIST classifier with logits"
    )
    parser.add_argument(
        "--data", type=Path, help="an .npz file with x_test, 0 to 255, and y_test"
    )


def network(arguments: argparse.Namespace) -> keras.Model:
    """Returns the given model, or an untrained one; a new object either way."""
    if arguments.model is None:
        return madry_network()
    return keras.saving.load_model(arguments.model, compile=False)


def images_and_labels(
    arguments: argparse.Namespace, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first images of the given file, or noise, and their labels.

    Args:
        arguments: The parsed command line.
        count: Number of images.
    """
    if arguments.data is None:
        return noise(count)
    with np.load(arguments.data) as data:
        images, labels = data["x_test"][:count], data["y_test"][:count]
    images = images.reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return images, labels.astype(np.int64)


def described(arguments: argparse.Namespace) -> str:
    """Returns the beginning of a sentence that says what is attacked."""
    weights = "untrained" if arguments.model is None else arguments.model.stem
    images = "noise" if arguments.data is None else f"images of {arguments.data.name}"
    return f"The Madry MNIST network ({weights}) on {images}"
