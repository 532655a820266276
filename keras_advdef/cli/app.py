"""The commands and their flags; what they do stands in modules of their own."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_advdef import __version__
from keras_advdef.cli.reported_failures import reported_failures

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
    """Defences against adversarial images, for Keras."""
    del show_version


@app.command()
def demo(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion_mnist, cifar10, a .npz file in the layout "
            "of keras.datasets, or a folder with one subfolder of images a class.",
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
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random draw.")
    ] = 0,
) -> None:
    """Trains with and without a defence, attacks both, and writes a report."""
    with reported_failures(Console(stderr=True)):
        from keras_advdef.cli.demo import run_demo
        from keras_advdef.cli.demo_settings import DemoSettings

        settings = DemoSettings.parse(
            data=data, output=output, epsilon=epsilon, epochs=epochs, seed=seed
        )
        run_demo(settings, Console())
