"""The command `evaluate`: attacks a saved model and writes a report."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._flags import Seed
from keras_advdef.cli._parse_number import parse_number
from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._rich_progress import RichProgress
from keras_advdef.cli.data.load import load_test_images
from keras_advdef.core.errors import invalid
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.evaluate_robustness import evaluate_robustness
from keras_advdef.evaluation.robustness_report import RobustnessReport

_EXIT_BELOW_MINIMUM = 1
# Flags that `evaluate_robustness` does not have.
_OWN = ("data", "minimum_robust_accuracy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """The flags of `keras-advdef evaluate`, as typed.

    The help of each flag says what it means. Apart from `data` and
    `minimum_robust_accuracy`, each is an argument of `evaluate_robustness`.
    """

    model: Annotated[
        str,
        typer.Argument(
            help="A .keras or .h5 file, or the folder of a SavedModel. A SavedModel "
            "can run any code with your rights: load only what you trust. The same "
            "holds for --reference and --surrogate.",
        ),
    ]
    data: Annotated[
        str,
        typer.Option(
            help="Images to attack: the test images of digits, mnist, fashion_mnist or "
            "cifar10; x_test of a .npz file; or a folder of images with one subfolder "
            "per class, of which only test/ is used if it has one.",
        ),
    ]
    epsilon: Annotated[
        str,
        typer.Option(
            help="Largest perturbation allowed, in the units of --value-range, such as "
            "8/255."
        ),
    ]
    norm: Annotated[
        str, typer.Option(help="Norm of the perturbation: linf, l2 or l1.")
    ] = "linf"
    value_range: Annotated[
        str,
        typer.Option(help="Pixel range that the model expects, such as 0,255."),
    ] = "0,1"
    budget: Annotated[
        str, typer.Option(help="How thoroughly to attack: quick, standard or full.")
    ] = "standard"
    output: Annotated[
        Path,
        typer.Option(help="Folder for the report; a stopped run resumes from it."),
    ] = Path("advdef-evaluation")
    minimum_robust_accuracy: Annotated[
        str | None,
        typer.Option(
            help="Exit with code 1 if the accuracy under all attacks is below this, "
            "such as 0.4."
        ),
    ] = None
    reference: Annotated[
        str | None,
        typer.Option(help="The undefended model to compare with, in the same formats."),
    ] = None
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="A model to transfer adversarial images from, in the same formats."
        ),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 128
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 for faster attacks.")
    ] = "float32"
    seed: Seed = 0
    allow_small_epsilon: Annotated[
        bool,
        typer.Option(
            "--allow-small-epsilon", help="Accept an epsilon below 0.1 % of the range."
        ),
    ] = False

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `evaluate_robustness` that the flags hold.

        Raises:
            ValueError: If a number cannot be read.
        """
        rule = "a number above 0, such as 8/255"
        return {
            **{name: each for name, each in vars(self).items() if name not in _OWN},
            "epsilon": parse_number("--epsilon", self.epsilon, rule=rule),
            "value_range": _parse_value_range(self.value_range),
        }

    def minimum(self) -> float | None:
        """Returns the smallest accuracy that counts as success, or `None`.

        Raises:
            ValueError: If it is not a number in `[0, 1]`.
        """
        if self.minimum_robust_accuracy is None:
            return None
        flag, rule = "--minimum-robust-accuracy", "a share in [0, 1], such as 0.4"
        number = parse_number(flag, self.minimum_robust_accuracy, rule=rule)
        if not 0.0 <= number <= 1.0:
            raise invalid("keras-advdef", flag, rule, self.minimum_robust_accuracy)
        return number


def _parse_value_range(text: str) -> tuple[float, float]:
    rule = "two numbers low,high, such as 0,255"
    low, comma, high = text.partition(",")
    if not comma:
        raise invalid("keras-advdef", "--value-range", rule, text)
    numbers = [parse_number("--value-range", each, rule=rule) for each in (low, high)]
    return numbers[0], numbers[1]


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
            verbose=progress,
            **arguments,
        )
    _print_report(report, flags.output, console)
    accuracy = report.adaptive["accuracy"]
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
    console.print(table)
    for check in report.checks:
        if check["passed"] is False:
            name = check["name"].replace("_", " ")
            print_line(console, f"Check failed: {name}. {check['detail']}")
    print_line(console, report.headline)
    print_line(console, f"Written to {output}: report.html, .md, .json, .png")
