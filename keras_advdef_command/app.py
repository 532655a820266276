"""The commands of `keras-advdef`: their flags, and what runs them."""

import types
from typing import Annotated

import typer

from keras_advdef_command._flags import Verbose, with_flags
from keras_advdef_command._one_line_group import OneLineGroup
from keras_advdef_command._version import version
from keras_advdef_command.compare_flags import CompareFlags
from keras_advdef_command.defence_names import card_name
from keras_advdef_command.demo_flags import DemoFlags
from keras_advdef_command.evaluate_flags import EvaluateFlags
from keras_advdef_command.harden_flags import HardenFlags
from keras_advdef_command.load_package import load_package

app = typer.Typer(
    cls=OneLineGroup, add_completion=False, pretty_exceptions_enable=False
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version())
        raise typer.Exit


def _commands(*, verbose: bool) -> types.ModuleType:
    """Returns the module that runs the commands, with all that it needs."""
    load_package(verbose=verbose)
    from keras_advdef.cli import commands

    return commands


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

    Exit codes:
    0 for success
    1 for an accuracy below --minimum-robust-accuracy
    2 for bad input
    70 for an internal error
    130 for Ctrl-C
    141 if the output was closed early, as by `head`
    143 for SIGTERM
    """
    del show_version


@app.command()
@with_flags(DemoFlags)
def demo(flags: DemoFlags) -> None:
    """Train a small classifier, harden it, and report it before and after."""
    flags.check()
    _commands(verbose=flags.verbose).demo(flags)


@app.command()
@with_flags(HardenFlags)
def harden(flags: HardenFlags) -> None:
    """Train a saved model to withstand attacks, and report it before and after.

    Exit codes:
    0 for success
    2 for bad input
    70 for an internal error
    130 for Ctrl-C
    143 for SIGTERM
    """
    flags.check()
    _commands(verbose=flags.verbose).harden(flags)


@app.command()
@with_flags(EvaluateFlags)
def evaluate(flags: EvaluateFlags) -> None:
    """Attack a saved model as its critics would, and write a report.

    Exit codes:
    0 for success
    1 if the accuracy is below the minimum
    2 for bad input
    70 for an internal error
    130 for Ctrl-C
    143 for SIGTERM
    """
    flags.check()
    _commands(verbose=flags.verbose).evaluate(flags)


@app.command()
@with_flags(CompareFlags)
def compare(flags: CompareFlags) -> None:
    """Put finished reports side by side on one page."""
    flags.check()
    _commands(verbose=flags.verbose).compare(flags)


@app.command()
def defences(
    name: Annotated[
        str | None, typer.Argument(help="A defence to show in full.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the defences: what they claim, and what broke them."""
    if name is not None:
        card_name(name)
    _commands(verbose=verbose).defences(name, as_json=as_json)
