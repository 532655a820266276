"""Every input transformation in front of one small CIFAR-10 net, under attack.

    python examples/reproductions/transformations_cifar10.py --data cifar10-20k.npz

Trains a net, and then a copy of it for a few more epochs behind each transformation,
and one undefended. Measures clean accuracy, accuracy under a naive and under all
attacks, and the four duties of a defence. Networks and reports go to a folder beside
the table; a second run continues from them.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from cifar10 import load_cifar10
from reproduction import Clock, command, parse_arguments, publish, table
from small_cifar10 import (
    BATCH_SIZE,
    WIDTHS,
    fit,
    folder_beside,
    kept,
    slug,
    small_network,
)

from keras_advdef import layers
from keras_advdef.attacks import FGSM
from keras_advdef.evaluation import (
    AccuracyEstimate,
    RobustnessReport,
    evaluate_robustness,
)
from keras_advdef.evaluation.accuracy_estimate import paired_difference
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.training import AdversarialTrainingModel

TITLE = "Input transformations on CIFAR-10, against adaptive attacks"
EPSILON = 8 / 255
EPOCHS, MORE_EPOCHS = 14, 2
RATE, MORE_RATE = 4e-3, 1e-3
ATTACKED = 200
SMOKE_ATTACKED = 8
PATCHES = 5000
TV_STEPS = 50
UNDEFENDED = "undefended"
ADVERSARIAL = "adversarial training"
# These should cost at most 3 points of clean accuracy.
MILD = ("JPEG, quality 75", "median, 2 x 2", "5 bits")


def transformations(
    images: np.ndarray, *, seed: int
) -> dict[str, Callable[[], keras.layers.Layer]]:
    """Returns what goes in front of the net, by name.

    Args:
        images: Training images, of which quilting takes its patches.
        seed: Fixes the choice of patches.
    """

    def quilting() -> keras.layers.Layer:
        layer = layers.ImageQuilting(seed=seed)
        layer.adapt(images, max_patches=PATCHES)
        return layer

    def resizing() -> keras.layers.Layer:
        return layers.RandomResizePad(36)

    return {
        MILD[0]: lambda: layers.JPEGCompression(75),
        MILD[1]: lambda: layers.MedianSmoothing(2),
        MILD[2]: lambda: layers.BitDepthReduction(5),
        "non-local means": layers.NonLocalMeans,
        "total variation": lambda: layers.TotalVariationMinimization(steps=TV_STEPS),
        "image quilting": quilting,
        "resizing and padding": resizing,
        f"resizing, {ADVERSARIAL}": resizing,
    }


def defended(
    network: keras.Model,
    front: keras.layers.Layer | None,
    data: Sequence[np.ndarray],
    *,
    is_adversarial: bool,
    epochs: int,
) -> keras.Model:
    """Returns a copy of a net behind a transformation, trained further.

    Args:
        network: The trained net, which stays as it is.
        front: The transformation, or `None`.
        data: Training images in `[0, 1]` and their classes.
        is_adversarial: Whether each batch is replaced by randomly started FGSM images.
        epochs: Passes over the images.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    parts = [copy] if front is None else [front, copy]
    model = keras.Sequential([keras.Input((32, 32, 3)), *parts])
    trained = model
    if is_adversarial:
        attack = FGSM(EPSILON, random_start=True, step_size=1.25 * EPSILON)
        trained = AdversarialTrainingModel(model, attack)
    fit(trained, *data, epochs=epochs, rate=MORE_RATE)
    return model


def correct(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which images a model gets right."""
    logits = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    return logits.argmax(axis=-1) == labels


def rows_of(
    data: Sequence[np.ndarray], folder: Path, *, smoke: bool, seed: int
) -> tuple[list[list[str]], float]:
    """Trains and evaluates all; returns the table's rows and the evaluations' time.

    Args:
        data: Images and labels for training and for tests.
        folder: Where networks and reports are kept.
        smoke: Whether to use two rows and a few images.
        seed: Fixes every draw.
    """
    x_train, y_train, x_test, y_test = data

    def base() -> keras.Model:
        network = small_network()
        fit(network, x_train, y_train, epochs=1 if smoke else EPOCHS, rate=RATE)
        return network

    fronts = {UNDEFENDED: lambda: None, ADVERSARIAL: lambda: None}
    fronts |= transformations(x_train, seed=seed)
    if smoke:
        fronts = {name: fronts[name] for name in (UNDEFENDED, MILD[0])}
    network = kept(folder / "base.keras", base)
    reference, rows, seconds = None, [], 0.0
    for name, front in fronts.items():
        train = functools.partial(
            lambda name, front: defended(
                network,
                front(),
                (x_train, y_train),
                is_adversarial=ADVERSARIAL in name,
                epochs=1 if smoke else MORE_EPOCHS,
            ),
            name,
            front,
        )
        model = kept(folder / f"{slug(name)}.keras", train)
        right = correct(model, x_test, y_test)
        if reference is None:
            reference, before = model, right
        count = SMOKE_ATTACKED if smoke else ATTACKED
        report = evaluate_robustness(
            model,
            x_test[:count],
            y_test[:count],
            epsilon=EPSILON,
            budget="quick",
            reference=None if model is reference else reference,
            output=folder / slug(name),
            seed=seed,
        )
        rows.append(row(name, report, right=right, before=before))
        seconds += report.data["run"]["seconds"]
    return rows, seconds


def main() -> None:
    """Trains, evaluates, and writes the reports and the table."""
    arguments = parse_arguments(__file__, "Input transformations on CIFAR-10")
    keras.utils.set_random_seed(arguments.seed)
    data = load_cifar10(arguments.data, smoke=arguments.smoke)
    folder = folder_beside(arguments.output)
    with Clock() as clock:
        rows, seconds = rows_of(
            data, folder, smoke=arguments.smoke, seed=arguments.seed
        )
    weights = small_network().count_params()
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(data[0])} CIFAR-10 training images; clean accuracy on "
        f"{len(data[2])} test images; attacks on the first {ATTACKED}",
        "Network": f"six convolutions of {WIDTHS} filters, {weights} weights",
        "Training": f"{EPOCHS} epochs of the net alone, then {MORE_EPOCHS} of each "
        f"row, in batches of {BATCH_SIZE} with shifts and mirrors; Adam, {RATE:g} and "
        f"{MORE_RATE:g}, along a cosine",
        "Transformations": f"defaults, but {TV_STEPS} steps of total variation, a bank "
        f"of {PATCHES} patches, resizing to 32 to 35 pixels within 36",
        "Evaluation": "the quick budget: FGSM, PGD-20, APGD-25, Square, and what the "
        "cards ask for (EOT, BPDA)",
        "Time": f"{seconds:.0f} s for the evaluations, each when it last ran; this run "
        f"added {clock} to what was already trained and evaluated",
    }
    publish(TITLE, _body(rows), facts=facts, output=arguments.output)


def row(
    name: str, report: RobustnessReport, *, right: np.ndarray, before: np.ndarray
) -> list[str]:
    """Returns the cells of one defence.

    Args:
        name: The defence.
        report: Of the evaluation.
        right: Which test images the defended net gets right.
        before: Which the undefended net gets right.
    """
    change, (low, high) = paired_difference(right, before)
    duties = report.data["duties"]
    near = next(each for each in duties["small_epsilons"] if each["epsilon"] > 0)
    ratio = report.data["run"]["inference"].get("inference_time_ratio")
    cost = f"{100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return [
        name,
        str(AccuracyEstimate(int(right.sum()), len(right))),
        "-" if name == UNDEFENDED else cost,
        percent_of(report.naive),
        percent_of(report.adaptive) + "*" * report.data["masking_suspected"],
        percent_of(near),
        str(duties["architecture"]["layers_added"]),
        "1" if ratio is None else f"{ratio:.2f}",
    ]


def _body(rows: list[list[str]]) -> str:
    """Returns the table and its explanation."""
    header = [
        "CIFAR-10, linf epsilon 8/255",
        "clean",
        "points lost or gained",
        "naive PGD-20",
        "all attacks",
        "all attacks, 1/255",
        "layers added",
        "inference time",
    ]
    return (
        f"{table(header, rows)}\n\n"
        "Naive: computed on the net without its transformation. All attacks: they know "
        "the transformation (BPDA, EOT);\nthe worst attack for each image counts. A "
        "star: the report suspects gradient masking, here because the naive attack is\n"
        "far weaker, so the naive number is the one that is too high. Brackets are 95 "
        "% intervals (Clopper-Pearson; for\ndifferences Agresti-Min, in percentage "
        "points on the same images). The time is relative to the undefended net's, "
        "the\nshortest of interleaved runs.\n\nThe images have been through JPEG once "
        "before, so compressing them again costs less accuracy than it would\ncost "
        "with originals."
    )


if __name__ == "__main__":
    main()
