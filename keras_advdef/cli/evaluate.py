"""The command `evaluate`: attacks a saved model and writes a report."""

from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._rich_progress import RichProgress
from keras_advdef.cli.data.load import load_test_images
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.evaluate_robustness import evaluate_robustness
from keras_advdef.evaluation.robustness_report import RobustnessReport
from keras_advdef_command.evaluate_flags import EvaluateFlags

_EXIT_BELOW_MINIMUM = 1


def run_evaluate(flags: EvaluateFlags, console: Console) -> RobustnessReport:
    """Evaluates a model, or continues a stopped run, and prints the result.

    Args:
        flags: What the user asked for.
        console: Where progress and the result go.

    Returns:
        The report.

    Raises:
        ValueError: If a flag, the model, the data or the output cannot be used.
        OSError: If a file cannot be read or written.
        typer.Exit: With code 1 if the accuracy is below the minimum.
    """
    arguments, minimum = flags.arguments(), flags.minimum()
    data = load_test_images(flags.data)
    print_line(console, f"Data: {data.description}.")
    pixels = ValueRange.parse("keras-advdef", arguments["value_range"])
    with RichProgress(console) as progress:
        report = evaluate_robustness(
            images=pixels.from_unit(data.images),
            labels=data.labels,
            class_names=data.classes,
            data_name=data.source,
            verbose=progress,
            **arguments,
        )
    if flags.model_card:
        report.save(flags.output, model_card=True)
    _print_report(report, flags.output, console)
    accuracy = report.data.get("union", report.adaptive)["accuracy"]
    if minimum is not None and accuracy < minimum:
        print_line(
            console,
            f"Accuracy under all attacks is {accuracy:.4g}, below the minimum of "
            f"{minimum:g}.",
        )
        raise typer.Exit(_EXIT_BELOW_MINIMUM)
    return report


def _print_report(report: RobustnessReport, output: Path, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="Accuracy, 95 % Clopper-Pearson intervals")
    table.add_column("images")
    table.add_column("accuracy", justify="right")
    table.add_row("clean", percent(report.clean))
    table.add_row("under the naive attack", percent(report.naive))
    table.add_row("under all attacks", percent(report.adaptive))
    drawn = report.adaptive.get("judgements")
    if drawn is not None:
        # Of a random model, the accuracies so far are means.
        table.add_row(
            f"right in all of {drawn['draws']} draws", percent(drawn["worst"])
        )
        table.add_row("right by majority vote", percent(drawn["majority"]))
    # The attacks above are those of the first norm.
    for each in report.data.get("norms", [])[1:]:
        ball = f"{each['norm']}, epsilon {each['epsilon']:.4g}"
        table.add_row(f"under all attacks, {ball}", percent(each["adaptive"]))
    if "union" in report.data:
        table.add_row("under any of the norms", percent(report.data["union"]))
    if report.corruptions is not None:
        mean = percent(report.corruptions.mean)
        table.add_row("with common corruptions, on average", mean)
    console.print(table)
    for check in report.checks:
        if check["passed"] is False:
            name = check["name"].replace("_", " ")
            print_line(console, f"Check failed: {name}. {check['detail']}")
    print_line(console, report.headline)
    if "union" in report.data:
        print_line(console, report.data["union"]["finding"])
    print_line(
        console, f"Written to {output}: report.html, .md, .json, .png; images.csv"
    )
