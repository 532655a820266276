"""Runs the commands, and makes one line and an exit code of every failure."""

from keras_advdef.cli._console import CommandConsole
from keras_advdef.cli._exit_on_error import ExitOnError
from keras_advdef.cli.compare import run_compare
from keras_advdef.cli.defences import run_defences
from keras_advdef.cli.demo.demo import run_demo
from keras_advdef.cli.evaluate import run_evaluate
from keras_advdef.cli.harden import run_harden
from keras_advdef_command.compare_flags import CompareFlags
from keras_advdef_command.demo_flags import DemoFlags
from keras_advdef_command.evaluate_flags import EvaluateFlags
from keras_advdef_command.harden_flags import HardenFlags


def demo(flags: DemoFlags) -> None:
    """Runs `keras-advdef demo`.

    Args:
        flags: What the user asked for.

    Raises:
        typer.Exit: If it fails, after a line on standard error.
    """
    resume = "run the same command again to continue"
    with ExitOnError(CommandConsole(stderr=True), interrupted=resume):
        run_demo(flags, CommandConsole())


def harden(flags: HardenFlags) -> None:
    """Runs `keras-advdef harden`.

    Args:
        flags: What the user asked for.

    Raises:
        typer.Exit: If it fails, after a line on standard error.
    """
    resume = "run the same command again to continue"
    with ExitOnError(CommandConsole(stderr=True), interrupted=resume):
        run_harden(flags, CommandConsole())


def evaluate(flags: EvaluateFlags) -> None:
    """Runs `keras-advdef evaluate`.

    Args:
        flags: What the user asked for.

    Raises:
        typer.Exit: If it fails, after a line on standard error, and with code 1 if the
            accuracy is below the minimum.
    """
    resume = "run the same command again to continue"
    with ExitOnError(CommandConsole(stderr=True), interrupted=resume):
        run_evaluate(flags, CommandConsole())


def compare(flags: CompareFlags) -> None:
    """Runs `keras-advdef compare`.

    Args:
        flags: What the user asked for.

    Raises:
        typer.Exit: If it fails, after a line on standard error.
    """
    with ExitOnError(CommandConsole(stderr=True)):
        run_compare(flags, CommandConsole())


def defences(name: str | None, *, as_json: bool) -> None:
    """Runs `keras-advdef defences`.

    Args:
        name: Name of a defence or of a part of one; `None` for all.
        as_json: Whether to print JSON.

    Raises:
        typer.Exit: If it fails, after a line on standard error.
    """
    with ExitOnError(CommandConsole(stderr=True)):
        run_defences(name, as_json=as_json, console=CommandConsole())
