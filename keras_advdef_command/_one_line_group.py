"""A group of commands that refuses its arguments in one line."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from keras_advdef_command.refusal import RefusedArgument

# What typer raises for wrong usage; it exports only this subclass.
_WRONG_USAGE: Any = typer.BadParameter.__mro__[1]
_REFUSED, _NOT_READ = 2, 141


class OneLineGroup(TyperGroup):
    """Prints one line for wrong usage, where typer prints the usage and a box."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Runs a command; exits with its code unless `standalone_mode` is false.

        Args:
            *args: As typer takes them.
            **options: As typer takes them.
        """
        is_alone = options.get("standalone_mode", True)
        options["standalone_mode"] = False
        if not is_alone:
            return super().main(*args, **options)
        try:
            code = super().main(*args, **options)
        except (RefusedArgument, _WRONG_USAGE) as error:
            sys.stderr.write(f"{_sentence(error)}\n")
            sys.exit(_REFUSED)
        except SystemExit as error:
            # Typer's code where nobody reads the help.
            sys.exit(_NOT_READ if error.code == 1 else error.code)
        sys.exit(code or 0)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Shows the help if no command was typed.

        Args:
            ctx: As typer passes it.
            args: The words after the name of the program.
        """
        if not args:
            typer.echo(ctx.get_help())
            ctx.exit(_REFUSED)
        return super().parse_args(ctx, args)


def _sentence(error: Exception) -> str:
    if isinstance(error, RefusedArgument):
        return str(error)
    text = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    # What was typed may hold sequences that a terminal obeys.
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    stop = "" if text.endswith((".", "?", "!")) else "."
    context = error.ctx  # type: ignore[attr-defined]
    path = context.command_path if context else "keras-advdef"
    return f"{text}{stop} See `{path} --help`."
