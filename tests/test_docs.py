"""The examples in docstrings run, and the docstrings of public names are complete."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef
import keras_advdef_command
from tests.golden.refresh import public_names

_MODULES = sorted(
    module.name
    for package in (keras_advdef, keras_advdef_command)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)
_PUBLIC = dict(public_names())


def _module(name):
    needs_extra = name.startswith(("keras_advdef.cli.", "keras_advdef_command."))
    if needs_extra and importlib.util.find_spec("typer") is None:
        pytest.skip("the command line needs the extra `all`")
    return importlib.import_module(name)


@pytest.mark.parametrize("name", _MODULES)
def test_examples_of_docstrings(name):
    names = {"np": np, "tf": tf, "keras": keras, "keras_advdef": keras_advdef}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for example in doctest.DocTestFinder().find(_module(name), globs=names):
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_examples_are_found():
    found = doctest.DocTestFinder().find(_module("keras_advdef.core.norms"))
    assert sum(bool(test.examples) for test in found) >= 5


@pytest.mark.parametrize("name", _PUBLIC)
def test_public_name_has_an_example(name):
    assert has_example(_PUBLIC[name])


def has_example(public):
    """Whether a docstring has an example that runs."""
    doc = inspect.getdoc(public) or ""
    return re.search(r"^Example:\n\n>>> ", doc, re.MULTILINE) is not None


def _documented_arguments(doc):
    """Returns the names in the section `Args:` of a cleaned docstring."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", doc + "\n", re.MULTILINE)
    return re.findall(r"^    (\w+):", section[1] if section else "", re.MULTILINE)


@pytest.mark.parametrize("name", _PUBLIC)
def test_public_name_documents_its_arguments(name):
    assert undocumented_arguments(_PUBLIC[name]) == []


def undocumented_arguments(public):
    """Returns the arguments that a docstring does not name."""
    starred = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    arguments = [
        parameter.name
        for parameter in inspect.signature(public).parameters.values()
        if parameter.kind not in starred
    ]
    documented = _documented_arguments(inspect.getdoc(public) or "")
    return [argument for argument in arguments if argument not in documented]


def test_sections_are_read_to_their_end():
    arguments = "Args:\n    one: First,\n        or: not.\n    two: Second.\n"
    doc = f"Does.\n\n{arguments}\nEnd:\n    three: no."
    assert _documented_arguments(doc) == ["one", "two"]
