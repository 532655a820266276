"""The commands of `keras-advdef`; each file beside this one runs one of them."""

from typing import Annotated

import typer

from keras_advdef import __version__
from keras_advdef.cli._console import CommandConsole
from keras_advdef.cli._exit_on_error import ExitOnError
from keras_advdef.cli._flags import with_flags
from keras_advdef.cli.defences import run_defences
from keras_advdef.cli.demo.demo import run_demo
from keras_advdef.cli.demo.flags import DemoFlags
from keras_advdef.cli.evaluate import EvaluateFlags, run_evaluate

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
    bad input; 70 for an internal error; 130 for Ctrl-C; 143 for SIGTERM; 141 if the
    output was closed early, as by `head`.
    """
    del show_version


@app.command()
@with_flags(DemoFlags)
def demo(flags: DemoFlags) -> None:
    """Train a classifier with and without a defence, attack both, write a report."""
    with ExitOnError(CommandConsole(stderr=True)):
        run_demo(flags, CommandConsole())


@app.command()
@with_flags(EvaluateFlags)
def evaluate(flags: EvaluateFlags) -> None:
    """Attack a saved model as its critics would, and write a report.

    Exit codes: 0 for success; 1 if the accuracy is below the minimum; 2 for bad input;
    70 for an internal error; 130 for Ctrl-C; 143 for SIGTERM.
    """
    resume = "run the same command again to continue"
    with ExitOnError(CommandConsole(stderr=True), interrupted=resume):
        run_evaluate(flags, CommandConsole())


@app.command()
def defences(
    name: Annotated[
        str | None, typer.Argument(help="A defence to show in full.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the defences: what they claim, and what broke them."""
    with ExitOnError(CommandConsole(stderr=True)):
        run_defences(name, as_json=as_json, console=CommandConsole())
