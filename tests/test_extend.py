"""The recipes of docs/extend.md work as written, and keep the package's rules."""

import ast
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef
from keras_advdef.core.cards import card_of
from tests.golden.refresh import public_names
from tests.support import cases
from tests.support.check_attack import check_attack
from tests.support.check_layer import check_layer
from tests.support.check_objective import check_objective
from tests.test_docs import has_example, undocumented_arguments

_ROOT = Path(__file__).parent.parent
_PAGE = (_ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
_LONGEST = 120
pytestmark = pytest.mark.usefixtures("own_cards")
_FILE = re.compile(r"^`(\S+\.py)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Recipe(NamedTuple):
    """The three files of a recipe: the class, what its folder gains, the test."""

    path: str
    source: str
    exports: str
    test_path: str
    test: str

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".")


def _recipes():
    files = _FILE.findall(_PAGE)
    groups = [files[start : start + 3] for start in range(0, len(files), 3)]
    return [
        Recipe(path, source, exports, test_path, test)
        for (path, source), (_, exports), (test_path, test) in groups
    ]


_RECIPES = {recipe.module.rpartition(".")[2]: recipe for recipe in _recipes()}
_each = pytest.mark.parametrize("recipe", _RECIPES.values(), ids=_RECIPES)


def _imported(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield node.module


def _make_module(monkeypatch, name, source):
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)
    return module


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a recipe's files in their places for the duration of a test."""

    def put(recipe):
        module = _make_module(monkeypatch, recipe.module, recipe.source)
        folder = importlib.import_module(recipe.module.rpartition(".")[0])
        (name,) = re.findall(
            rf"^\+from {recipe.module} import (\w+)\n$", recipe.exports
        )
        monkeypatch.setattr(folder, name, getattr(module, name), raising=False)
        monkeypatch.setattr(folder, "__all__", sorted([*folder.__all__, name]))
        path = tmp_path / Path(recipe.test_path).relative_to("tests")
        path.parent.mkdir(parents=True)
        path.write_text(recipe.test, encoding="utf-8")
        monkeypatch.setattr(cases, "TESTS", tmp_path)
        return getattr(module, name)

    return put


def _run_tests(recipe, request, monkeypatch):
    """Runs the test functions of a recipe with the fixtures they ask for."""
    module = _make_module(monkeypatch, recipe.module.replace(".", "_"), recipe.test)
    tests = {name: test for name, test in vars(module).items() if name[:5] == "test_"}
    for test in tests.values():
        names = test.__code__.co_varnames[: test.__code__.co_argcount]
        test(*map(request.getfixturevalue, names))
    assert len(tests) >= 2


def _run_example(cls):
    names = {"np": np, "tf": tf, "keras": keras, "keras_advdef": keras_advdef}
    runner = doctest.DocTestRunner()
    (example,) = doctest.DocTestFinder(recurse=False).find(cls, globs=names)
    assert runner.run(example).failed == 0


def _arguments(cls, kind):
    found = [arguments for each, arguments in cases.cases_of(kind) if each is cls]
    assert found, "its contract is not found"
    return found


def test_layer(install, images, request, monkeypatch):
    recipe = _RECIPES["gaussian_blur"]
    cls = install(recipe)
    for arguments in _arguments(cls, "layer"):
        check_layer(cls, arguments, images)
    _run_tests(recipe, request, monkeypatch)


def test_attack(install, trained_net, digits, request, monkeypatch):
    recipe = _RECIPES["sign_search"]
    cls = install(recipe)
    x, y = digits.x_test[:6], digits.y_test[:6]
    for arguments in _arguments(cls, "attack"):
        check_attack(cls, arguments, trained_net, x, y)
    _run_tests(recipe, request, monkeypatch)


def test_objective(install, images, labels, request, monkeypatch):
    recipe = _RECIPES["vat"]
    cls = install(recipe)
    for arguments in _arguments(cls, "objective"):
        check_objective(cls, arguments, images, labels)
    _run_tests(recipe, request, monkeypatch)


def test_recipe_works_in_another_package(tmp_path, images, monkeypatch):
    source = _RECIPES["gaussian_blur"].source
    for inside, outside in (
        ("keras_advdef.layers.input_transform", "keras_advdef.layers"),
        ("keras_advdef.core.cards", "keras_advdef.core"),
        ('package="keras_advdef"', 'package="mine"'),
    ):
        assert inside in source
        source = source.replace(inside, outside)
    cls = _make_module(monkeypatch, "mine.gaussian_blur", source).GaussianBlur
    model = keras.Sequential([keras.Input((8, 8, 1)), cls(sigma=0.8)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is cls
    assert card_of(loaded.layers[0]).standing == "broken"
    np.testing.assert_array_equal(loaded(images), model(images))


@_each
def test_recipe_is_short(recipe):
    files = (recipe.source, recipe.exports, recipe.test)
    assert sum(len(text.splitlines()) for text in files) < _LONGEST


@_each
def test_recipe_imports_no_helper(recipe):
    modules = [*_imported(recipe.source), *_imported(recipe.test)]
    assert not [module for module in modules if "._" in module]


@_each
def test_files_are_where_they_belong(recipe):
    folder, module = recipe.path.removeprefix("keras_advdef/").rsplit("/", 1)
    assert recipe.test_path == f"tests/{folder}/test_{module}"
    assert not (_ROOT / recipe.path).exists()


@_each
def test_class_is_public_and_documented(recipe, install):
    cls = install(recipe)
    public = dict(public_names())
    folder = recipe.module.split(".")[1]
    _run_example(cls)
    assert public[f"{folder}.{cls.__name__}"] is cls
    assert has_example(cls)
    assert undocumented_arguments(cls) == []


@pytest.mark.parametrize("name", ["gaussian_blur", "vat"])
def test_defence_has_a_card(name, install):
    assert card_of(install(_RECIPES[name])) is not None


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
@_each
def test_recipe_passes_the_linter(recipe):
    for path, text in (
        (recipe.path, recipe.source),
        (recipe.test_path, recipe.test),
    ):
        for command in (["check"], ["format", "--check"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"],
                input=text,
                cwd=_ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
