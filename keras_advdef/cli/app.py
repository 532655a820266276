"""The commands and their flags; what they do stands in modules of their own."""

from pathlib import Path
from typing import Annotated

import typer

from keras_advdef import __version__
from keras_advdef.cli._console import CommandConsole
from keras_advdef.cli._exit_on_error import ExitOnError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def keras_advdef(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Defences against adversarial images, for Keras.

    Exit codes: 0 for success; 1 for an accuracy below --minimum-robust-accuracy; 2 for
    what cannot be used; 70 for an error of ours; 130 for Ctrl-C, 143 for SIGTERM and
    141 for output that is read no more.
    """
    del show_version


@app.command()
def demo(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion_mnist, cifar10, a .npz file in the layout "
            "of keras.datasets, or a folder with one subfolder of images a class, or "
            "with train/ and test/ of that kind.",
        ),
    ] = "digits",
    output: Annotated[
        Path, typer.Option(help="Folder for the models and the report.")
    ] = Path("advdef-demo"),
    epsilon: Annotated[
        str | None,
        typer.Option(
            help="Largest change of a pixel, in [0, 1]: 0.1 or 8/255. "
            "Default: by data set.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the images. Default: by data set."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random draw.")
    ] = 0,
) -> None:
    """Trains with and without a defence, attacks both, and writes a report."""
    with ExitOnError(CommandConsole(stderr=True)):
        from keras_advdef.cli.demo.demo import run_demo
        from keras_advdef.cli.demo.settings import DemoSettings

        settings = DemoSettings.parse(
            data=data, output=output, epsilon=epsilon, epochs=epochs, seed=seed
        )
        run_demo(settings, CommandConsole())


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A .keras or .h5 file, or the folder of a SavedModel. The latter is a "
            "program with your rights: load only what you trust, here and below."
        ),
    ],
    *,
    data: Annotated[
        str,
        typer.Option(
            help="What is attacked: the test images of digits, mnist, fashion_mnist or "
            "cifar10, x_test of a .npz file, or all images of a folder with one "
            "subfolder a class, those of its test/ if it has one."
        ),
    ],
    epsilon: Annotated[
        str,
        typer.Option(help="Radius of the ball, in the units of the range: 8/255."),
    ],
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    value_range: Annotated[
        str, typer.Option(help="Range of the pixels that the model takes: 0,255.")
    ] = "0,1",
    budget: Annotated[str, typer.Option(help="quick, standard or full.")] = "standard",
    output: Annotated[
        Path, typer.Option(help="Folder for the report; a stopped run goes on there.")
    ] = Path("advdef-evaluation"),
    minimum_robust_accuracy: Annotated[
        str | None,
        typer.Option(help="Exit with 1 if the accuracy under all attacks is below."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The undefended model, to compare with; as MODEL."),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(help="A model to transfer adversarial images from; as MODEL."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 128,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 for faster attacks.")
    ] = "float32",
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random draw.")
    ] = 0,
    allow_small_epsilon: Annotated[
        bool,
        typer.Option(
            "--allow-small-epsilon", help="Allow an epsilon under 0.1 % of the range."
        ),
    ] = False,
) -> None:
    """Attacks a model as its critics would, and writes a report.

    Exits with 0; with 1 if the accuracy is below the minimum; with 2 for what cannot be
    used, 70 for an error of ours, 130 for Ctrl-C and 143 for SIGTERM.
    """
    resume = "run the same command again to go on"
    with ExitOnError(CommandConsole(stderr=True), interrupted=resume):
        from keras_advdef.cli import _evaluate_settings as flags
        from keras_advdef.cli.evaluate import run_evaluate

        settings = flags.EvaluateSettings(
            model=model,
            data=data,
            epsilon=flags.parse_epsilon(epsilon),
            norm=norm,
            value_range=flags.parse_value_range(value_range),
            budget=budget,
            output=output,
            minimum=flags.parse_minimum(minimum_robust_accuracy),
            reference=reference,
            surrogate=surrogate,
            batch_size=batch_size,
            precision=precision,
            seed=seed,
            allow_small_epsilon=allow_small_epsilon,
        )
        run_evaluate(settings, CommandConsole())


@app.command()
def defences(
    name: Annotated[
        str | None, typer.Argument(help="One defence, to be shown in full.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists the defences: what they claim, and what broke them."""
    with ExitOnError(CommandConsole(stderr=True)):
        from keras_advdef.cli.defences import run_defences

        run_defences(name, as_json=as_json, console=CommandConsole())
