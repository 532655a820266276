"""The small CIFAR-10 network of the reproductions: its training and its row."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from cifar10 import DEVIATION, MEAN, augmented, load_cifar10
from reproduction import Clock, percent

from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of

WIDTHS = (16, 32, 64)
BATCH_SIZE = 128
# An attack on a random model takes hundreds of passes per image.
ATTACKED, SMOKE_ATTACKED = 200, 4


def small_network() -> keras.Model:
    """Returns a VGG-like net of six convolutions, with logits, for any image size."""
    variance = [deviation**2 for deviation in DEVIATION]
    stages = [
        layer
        for width in WIDTHS
        for layer in (
            *_convolution(width),
            *_convolution(width),
            keras.layers.MaxPooling2D(),
        )
    ]
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Normalization(mean=MEAN, variance=variance),
            *stages,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10),
        ]
    )


def _convolution(width: int) -> list[keras.layers.Layer]:
    return [
        keras.layers.Conv2D(width, 3, padding="same", use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
    ]


def fit(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    rate: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains a model that ends in logits, with shifts and mirrors.

    Args:
        model: The model; it is compiled here.
        images: Training images in `[0, 1]`.
        labels: Their classes.
        epochs: Passes over them.
        rate: Adam's first learning rate, which falls to zero along a cosine.
        callbacks: As of `keras.Model.fit`.
    """
    steps = max(1, len(images) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    batches = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = batches.shuffle(len(images)).map(augmented, tf.data.AUTOTUNE)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True).prefetch(2)
    options = {"callbacks": list(callbacks), "shuffle": False, "verbose": 2}
    model.fit(batches, epochs=epochs, **options)


def slug(name: str) -> str:
    """Returns a name for files."""
    return "-".join(
        "".join(letter if letter.isalnum() else " " for letter in name).split()
    ).lower()


def folder_beside(output: Path | None) -> Path:
    """Returns the folder of networks and reports: beside the table, or a temporary one.

    Args:
        output: Where the table goes, or `None`.
    """
    folder = Path(tempfile.mkdtemp()) if output is None else output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(path: Path, make: Callable[[], keras.Model]) -> keras.Model:
    """Returns the model of a file; if that is missing, makes the model and keeps it.

    Args:
        path: The .keras file.
        make: Returns the model.
    """
    if not path.is_file():
        print(f"{path.stem}:")
        make().save(path)
    return keras.models.load_model(path)


def measured(
    make: Callable[..., dict[str, keras.Model]],
    arguments: argparse.Namespace,
    *,
    epsilon: float,
    curve: Sequence[float],
) -> tuple[list[list[str]], dict[str, str]]:
    """Trains and attacks models; returns a row for each, and facts about the run.

    A row holds name, clean accuracy, naive, under all attacks, and under those at the
    smaller epsilons. Networks and reports go to a folder beside the table; a second
    run continues from them.

    Args:
        make: Function of the data, of the folder for `kept` and of `smoke` that returns
            trained models by name.
        arguments: What `parse_arguments` returned.
        epsilon: Of the attacks, in linf.
        curve: The smaller epsilons.
    """
    keras.utils.set_random_seed(arguments.seed)
    data = load_cifar10(arguments.data, smoke=arguments.smoke)
    folder = folder_beside(arguments.output)
    count = SMOKE_ATTACKED if arguments.smoke else ATTACKED
    rows, seconds = [], 0.0
    with Clock() as clock:
        for name, model in make(data, folder, smoke=arguments.smoke).items():
            report = evaluate_robustness(
                model,
                data[2][:count],
                data[3][:count],
                epsilon=epsilon,
                budget="quick",
                curve=curve,
                seed=arguments.seed,
                output=folder / slug(name),
            )
            rows.append(_row(name, model, report, tested=(data[2], data[3])))
            seconds += report.data["run"]["seconds"]
    facts = {
        "Seed": str(arguments.seed),
        "Data": f"{len(data[0])} CIFAR-10 training images; clean accuracy on "
        f"{len(data[2])} test images, attacks on the first {ATTACKED}",
        "Network": f"six convolutions of {WIDTHS} filters",
        "Evaluation": "the quick budget of `evaluate_robustness`, and what the cards "
        "ask for",
        "Time": f"{seconds:.0f} s for the evaluations, each when it last ran; this run "
        f"added {clock} to what was already trained and evaluated",
    }
    return rows, facts


def _row(
    name: str,
    model: keras.Model,
    report: RobustnessReport,
    *,
    tested: tuple[np.ndarray, np.ndarray],
) -> list[str]:
    images, labels = tested
    outputs = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    right = int((outputs.argmax(axis=-1) == labels).sum())
    small = report.data["duties"]["small_epsilons"]
    return [
        name,
        percent(right, len(labels)),
        percent_of(report.naive),
        percent_of(report.adaptive) + "*" * report.data["masking_suspected"],
        *(percent_of(each) for each in small if each["epsilon"] > 0),
    ]
