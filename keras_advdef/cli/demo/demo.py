"""The demo: trains a small classifier as usual, and hardens it."""

import dataclasses
from pathlib import Path

import keras
from rich.console import Console

from keras_advdef.cli._print_hardened import print_hardened
from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._rich_progress import RichProgress
from keras_advdef.cli.data.load import load_dataset
from keras_advdef.cli.demo._budget import Budget
from keras_advdef.cli.demo._small_network import small_network
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.errors import invalid
from keras_advdef.core.files import atomic_write, write_errors_as
from keras_advdef.core.progress import Progress
from keras_advdef.core.read_keras import read_keras
from keras_advdef.recipes.harden import harden
from keras_advdef.recipes.hardened_model import MODEL, HardenedModel
from keras_advdef_command.demo_flags import UNDEFENDED, DemoFlags

_BATCH_SIZE = 64
_LEARNING_RATE = 1e-3


def _budget(flags: DemoFlags) -> Budget:
    budget = Budget.for_data(flags.data)
    return dataclasses.replace(
        budget,
        epsilon=flags.epsilon_number() or budget.epsilon,
        epochs=flags.epochs or budget.epochs,
    )


def _print_data(console: Console, whole: Dataset, used: Dataset) -> None:
    for part, all_images, images in (
        ("training", whole.x_train, used.x_train),
        ("test", whole.x_test, used.x_test),
    ):
        share = "" if len(images) == len(all_images) else f" of {len(all_images)}"
        print_line(console, f"{used.name}: {len(images)}{share} {part} images")


def _train(dataset: Dataset, epochs: int, progress: Progress) -> keras.Model:
    """Returns a small classifier, trained as if nobody would attack it."""
    model = small_network(dataset.x_train.shape[1:], dataset.classes)
    model.compile(
        keras.optimizers.Adam(_LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    count = len(dataset.x_train)
    progress.line(f"Training a small classifier without a defence: {epochs} epochs.")

    def show(epoch: int, logs: dict[str, float] | None = None) -> None:
        del logs
        left = (epochs - epoch - 1) * count
        progress.update("training without a defence", left=left, seconds=None)

    model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=_BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)],
    )
    return model


def _undefended(
    flags: DemoFlags, budget: Budget, dataset: Dataset, *, progress: Progress
) -> keras.Model:
    """Returns the classifier that is hardened: that of a stopped run, or a new one."""

    def refuse(advice: str) -> ValueError:
        rule = f"a folder without a foreign {UNDEFENDED}"
        said = f"{advice} Choose another folder."
        return invalid("keras-advdef", "--output", rule, str(flags.output), advice=said)

    path = flags.output / UNDEFENDED
    if path.is_file():
        return read_keras(path, refuse)
    keras.utils.set_random_seed(flags.seed)
    model = _train(dataset, budget.epochs, progress)

    def unwritable(advice: str) -> ValueError:
        rule = "a folder that can be written to"
        said = f"{advice} Choose another folder or free some space."
        return invalid("keras-advdef", "--output", rule, str(flags.output), advice=said)

    with write_errors_as(unwritable):
        flags.output.mkdir(parents=True, exist_ok=True)
        atomic_write(path, model.save)
    return model


def run_demo(flags: DemoFlags, console: Console) -> HardenedModel:
    """Trains a classifier, hardens it, and writes all that `harden` does.

    Args:
        flags: What the user asked for.
        console: Where progress and the table go.

    Returns:
        The hardened model.

    Raises:
        ValueError: If the data or the output folder cannot be used.
        OSError: If the data cannot be downloaded, or a file cannot be written.
    """
    budget = _budget(flags)
    whole = load_dataset(flags.data)
    dataset = whole.subsample(
        train=budget.train_images, test=budget.test_images, seed=flags.seed
    )
    _print_data(console, whole, dataset)
    with RichProgress(console) as progress:
        hardened = harden(
            _undefended(flags, budget, dataset, progress=progress),
            (dataset.x_train, dataset.y_train),
            (dataset.x_test, dataset.y_test),
            epsilon=budget.epsilon,
            epochs=budget.epochs,
            output=flags.output,
            seed=flags.seed,
            batch_size=_BATCH_SIZE,
            class_names=dataset.class_names or None,
            data_name=f"test images of {dataset.name}",
            verbose=progress,
        )
    print_hardened(hardened, flags.output, console)
    _print_next(flags.output, console)
    return hardened


def _print_next(output: Path, console: Console) -> None:
    print_line(
        console,
        f"Open {output / 'report.html'} in a browser. Load the hardened classifier "
        f"with `keras.saving.load_model({str(output / MODEL)!r})`.",
    )
    print_line(
        console,
        f"For your own: `keras-advdef harden MODEL --data DATA "
        f"--epsilon EPSILON --output FOLDER`; this one began as {output / UNDEFENDED}.",
    )
