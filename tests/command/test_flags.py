import dataclasses
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from keras_advdef_command._flags import Seed, with_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Flags:
    name: Annotated[str, typer.Argument(help="A name.")]
    size: Annotated[int, typer.Option(min=1, help="A size.")] = 3
    seed: Seed = 0


@pytest.fixture
def invoke():
    """Runs a command of those flags; returns the result and what it was given."""
    calls = []
    app = typer.Typer()

    @app.command()
    @with_flags(_Flags)
    def command(flags: _Flags) -> None:
        """Says hello."""
        calls.append(flags)

    return lambda *typed: (CliRunner().invoke(app, typed), calls)


def test_fields_are_flags(invoke):
    result, calls = invoke("me", "--seed", "7")
    assert result.exit_code == 0
    assert calls == [_Flags(name="me", size=3, seed=7)]


def test_help_comes_from_the_fields_and_the_function(invoke):
    result, _ = invoke("--help")
    for text in ("Says hello.", "A name.", "A size.", "default: 3", "--seed"):
        assert text in result.stdout


@pytest.mark.parametrize(
    "typed", [(), ("me", "--size", "0"), ("me", "--seed", str(2**31)), ("a", "b")]
)
def test_wrong_usage(invoke, typed):
    result, calls = invoke(*typed)
    assert result.exit_code == 2
    assert calls == []
