"""The demo: trains with and without a defence, attacks both, writes a report."""

import dataclasses
import datetime
import json
from pathlib import Path

import keras
from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.attacks import PGD
from keras_advdef.cli.data.load import load_dataset
from keras_advdef.cli.demo._atomic_output import atomic_output, output_refusal
from keras_advdef.cli.demo._attack_curve import attack_curve, predicted_labels
from keras_advdef.cli.demo._budget import Budget
from keras_advdef.cli.demo._curve_plot import save_curve_plot
from keras_advdef.cli.demo._report import demo_report
from keras_advdef.cli.demo._run import DemoRun
from keras_advdef.cli.demo._small_network import small_network
from keras_advdef.cli.demo._stage_progress import StageProgress
from keras_advdef.cli.demo._train_classifier import train_classifier
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.files import check_disk_space, write_errors_as
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef_command.demo_flags import FILES, SERVED, DemoFlags

_EVALUATION_STEPS = 40
# Bytes for the graphs, the report and the plot.
_SMALL_FILES = 8 * 2**20


def _budget(flags: DemoFlags) -> Budget:
    budget = Budget.for_data(flags.data)
    return dataclasses.replace(
        budget,
        epsilon=flags.epsilon_number() or budget.epsilon,
        epochs=flags.epochs or budget.epochs,
    )


def _print_data(progress: StageProgress, whole: Dataset, used: Dataset) -> None:
    for part, all_images, images in (
        ("training", whole.x_train, used.x_train),
        ("test", whole.x_test, used.x_test),
    ):
        share = "" if len(images) == len(all_images) else f" of {len(all_images)}"
        progress.line(f"{used.name}: {len(images)}{share} {part} images")


def _measure(
    flags: DemoFlags, budget: Budget, dataset: Dataset, *, progress: StageProgress
) -> tuple[keras.Model, DemoRun]:
    """Trains and attacks; returns the defended model and all results."""
    started = datetime.datetime.now(datetime.UTC)
    keras.utils.set_random_seed(flags.seed)
    with progress.stage("Train undefended", budget.epochs) as advance:
        undefended = train_classifier(
            dataset, budget.epochs, epsilon=None, advance=advance
        )
    with progress.stage("Train defended", budget.epochs) as advance:
        defended = train_classifier(
            dataset, budget.epochs, epsilon=budget.epsilon, advance=advance
        )
    attack = PGD(budget.epsilon, steps=_EVALUATION_STEPS)
    epsilons = DemoRun.epsilons_around(budget.epsilon)
    curves, checks = {}, {}
    for name, model in (("undefended", undefended), ("defended", defended)):
        with progress.stage(f"Attack {name}", len(epsilons)) as advance:
            curves[name] = attack_curve(
                model,
                attack,
                images=dataset.x_test,
                labels=dataset.y_test,
                epsilons=epsilons,
                seed=flags.seed,
                advance=advance,
            )
        found = predicted_labels(model, dataset.x_test)
        checks[name] = better_than_chance(found, dataset.y_test)
    run = DemoRun(
        flags=flags,
        budget=budget,
        dataset=dataset,
        attack=attack,
        curves=curves,
        checks=checks,
        started=started,
        seconds=progress.seconds,
    )
    return defended, run


def _bytes_needed(dataset: Dataset) -> int:
    """Returns an upper bound on the size of the files, in bytes."""
    network = small_network(dataset.x_train.shape[1:], dataset.classes)
    # The weights, Adam's two moving averages of each, and the weights once more in the
    # SavedModel.
    return _SMALL_FILES + 4 * 4 * network.count_params()


def _write(staging: Path, model: keras.Model, run: DemoRun) -> None:
    model_file, report_file, plot_file = (staging / name for name in FILES)
    model.save(model_file)
    model.export(str(staging / SERVED), verbose=False)
    report = json.dumps(demo_report(run), indent=2, allow_nan=False)
    report_file.write_text(report + "\n", encoding="utf-8")
    save_curve_plot(
        plot_file,
        title=f"{run.dataset.name}: accuracy under {run.attack}",
        epsilon=run.budget.epsilon,
        epsilons=run.epsilons,
        curves=run.curves,
    )


def _table(run: DemoRun) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Accuracy, 95 % Clopper-Pearson intervals")
    table.add_column("classifier")
    table.add_column("clean images", justify="right")
    heading = f"under {run.attack}, epsilon {run.budget.epsilon:.4g}"
    table.add_column(heading, justify="right")
    for name in run.curves:
        table.add_row(name, str(run.clean(name)), str(run.adversarial(name)))
    return table


def _print_result(progress: StageProgress, run: DemoRun) -> None:
    output = run.flags.output
    for text in run.failed_checks:
        progress.line(text)
    progress.console.print(_table(run))
    progress.line(f"Written to {output}: {', '.join(FILES)}, {SERVED}/")
    progress.line(
        f"Load with `import keras_advdef; "
        f"keras.saving.load_model({str(output / FILES[0])!r})` "
        f"or `tf.saved_model.load({str(output / SERVED)!r})`."
    )
    progress.line(
        f"{run.attack} is only one attack; a stronger one may find more. Read the "
        "defended accuracy as an upper bound."
    )


def run_demo(flags: DemoFlags, console: Console) -> DemoRun:
    """Runs the demo and writes the model and the report to `flags.output`.

    Args:
        flags: What the user asked for.
        console: Where progress and the table go.

    Returns:
        The inputs and results of the run.

    Raises:
        ValueError: If the data or the output folder cannot be used, or the disk is
            full.
        OSError: If the data cannot be downloaded.
    """
    progress = StageProgress(console)
    budget = _budget(flags)
    with atomic_output(flags.output, files=FILES, folder=SERVED) as staging:
        whole = load_dataset(flags.data)
        dataset = whole.subsample(
            train=budget.train_images, test=budget.test_images, seed=flags.seed
        )
        _print_data(progress, whole, dataset)
        check_disk_space(staging, _bytes_needed(dataset), output_refusal(flags.output))
        model, run = _measure(flags, budget, dataset, progress=progress)
        with write_errors_as(output_refusal(flags.output)):
            _write(staging, model, run)
    _print_result(progress, run)
    return run
