"""The command `evaluate`: attacks a saved model and writes a report."""

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._evaluate_settings import EvaluateSettings
from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._rich_progress import RichProgress
from keras_advdef.cli.data.load import load_test_images
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.evaluate_robustness import evaluate_robustness
from keras_advdef.evaluation.robustness_report import RobustnessReport

_EXIT_BELOW_MINIMUM = 1


def run_evaluate(settings: EvaluateSettings, console: Console) -> RobustnessReport:
    """Evaluates a model, or goes on with it, and prints what came out.

    Args:
        settings: What the user asked for.
        console: Where progress and the result go.

    Returns:
        The report.

    Raises:
        ValueError: If model, data, epsilon or output cannot be used.
        OSError: If a file cannot be read or written.
        typer.Exit: With code 1 if the accuracy is below the minimum.
    """
    data = load_test_images(settings.data)
    print_line(console, f"Data: {data.description}.")
    pixels = ValueRange.parse("keras-advdef", settings.value_range)
    with RichProgress(console) as progress:
        report = evaluate_robustness(
            settings.model,
            pixels.from_unit(data.images),
            data.labels,
            epsilon=settings.epsilon,
            norm=settings.norm,
            value_range=settings.value_range,
            budget=settings.budget,
            reference=settings.reference,
            surrogate=settings.surrogate,
            batch_size=settings.batch_size,
            precision=settings.precision,
            output=settings.output,
            seed=settings.seed,
            verbose=progress,
            allow_small_epsilon=settings.allow_small_epsilon,
        )
    _print_report(report, settings, console)
    accuracy = report.adaptive["accuracy"]
    if settings.minimum is not None and accuracy < settings.minimum:
        print_line(
            console,
            f"Accuracy under all attacks is {accuracy:.4g}, below the minimum of "
            f"{settings.minimum:g}.",
        )
        raise typer.Exit(_EXIT_BELOW_MINIMUM)
    return report


def _print_report(
    report: RobustnessReport, settings: EvaluateSettings, console: Console
) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="Accuracy, 95 % Clopper-Pearson intervals")
    table.add_column("images")
    table.add_column("accuracy", justify="right")
    table.add_row("clean", percent(report.clean))
    table.add_row("under the naive attack", percent(report.naive))
    table.add_row("under all attacks", percent(report.adaptive))
    console.print(table)
    for check in report.checks:
        if check["passed"] is False:
            name = check["name"].replace("_", " ")
            print_line(console, f"Check failed: {name}. {check['detail']}")
    print_line(console, report.headline)
    print_line(console, f"Written to {settings.output}: report.html, .md, .json, .png")
