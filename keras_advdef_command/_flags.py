"""Flags that are declared once, as the fields of a dataclass."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

_Flags = TypeVar("_Flags")
_SEED_LIMIT = 2**31

Seed = Annotated[
    int, typer.Option(min=0, max=_SEED_LIMIT - 1, help="Seed for all random numbers.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show the messages of TensorFlow, too.")
]


def with_flags(
    declared: type[_Flags],
) -> Callable[[Callable[[_Flags], None]], Callable[..., None]]:
    """Gives a command one flag for each field of a dataclass.

    Args:
        declared: A dataclass. Each field is annotated with its `typer.Option` or
            `typer.Argument`; its default is that of the flag.

    Returns:
        A decorator. The decorated function takes an instance of `declared`, filled
        with what the user typed.
    """

    def decorate(command: Callable[[_Flags], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**typed: Any) -> None:
            command(declared(**typed))

        # Typer reads the flags from the signature.
        run.__signature__ = inspect.signature(declared)  # type: ignore[attr-defined]
        return run

    return decorate
