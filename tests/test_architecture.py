"""Rules for the files: where they are, how long they are, and what they import."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.refresh import public_names
from tests.support.fresh_process import run_fresh

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT / "keras_advdef"
_FILES = sorted(_PACKAGE.rglob("*.py"))
_NAMES = [str(file.relative_to(_PACKAGE)) for file in _FILES]
_MODULES = [name for name in _NAMES if "/" in name and not name.endswith("__init__.py")]
_HELPERS = [name for name in _MODULES if "/_" in name]
_OPEN = [name for name in _MODULES if "/_" not in name]
# What the command does before it loads the package.
_COMMAND = sorted((_ROOT / "keras_advdef_command").glob("*.py"))
_COMMAND_NAMES = [f"keras_advdef_command/{file.name}" for file in _COMMAND]

# Each folder may import itself and the folders before it.
_ORDER = (
    "core",
    "losses",
    "constraints",
    "layers",
    "surgery",
    "attacks",
    "objectives",
    "models",
    "training",
    "callbacks",
    "evaluation",
    "recipes",
    "cli",
)
_LONGEST_FILE = 300
_LONGEST_FUNCTION = 55


def _tree(name):
    return ast.parse((_PACKAGE / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", _OPEN)
def test_module_has_its_test(name):
    folder, module = name.rsplit("/", 1)
    assert (_ROOT / "tests" / folder / f"test_{module}").is_file()


@pytest.mark.parametrize("file", _COMMAND, ids=_COMMAND_NAMES)
def test_command_is_light_and_tested(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    at_once = ast.Module([each for each in tree.body if _is_import(each)], [])
    roots = {name.partition(".")[0] for name in _imported(at_once)}
    assert roots <= {*sys.stdlib_module_names, "typer", "keras_advdef_command"}
    if not file.name.startswith("_"):
        assert (_ROOT / "tests" / "command" / f"test_{file.name}").is_file()


def _is_import(node):
    return isinstance(node, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize(
    "name", [name for name in _NAMES if not name.startswith("cli/")]
)
def test_only_the_command_line_knows_the_command(name):
    assert "keras_advdef_command" not in (_PACKAGE / name).read_text(encoding="utf-8")


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_folders(tree):
    parts = [name.split(".") for name in _imported(tree)]
    folders = {part[1] for part in parts if part[0] == "keras_advdef" and part[1:]}
    return folders - {"__version__"}


@pytest.mark.parametrize("name", [name for name in _NAMES if "/" in name])
def test_imports_go_one_way(name):
    folder = name.split("/", maxsplit=1)[0]
    allowed = _ORDER[: _ORDER.index(folder) + 1]
    assert _imported_folders(_tree(name)) <= set(allowed)


def test_imports_are_seen():
    source = "def f():\n from keras_advdef.core import a\n from keras_advdef import cli"
    assert _imported_folders(ast.parse(source)) == {"core", "cli"}


# Tests of what several files of a folder do together.
_TOPICS = {
    "attacks/test_passes.py",
    "cli/test_hostile_files.py",
    "objectives/test_logits_of.py",
    "recipes/test_killed.py",
    "training/test_training_forms.py",
}
_TESTS = {
    str(test.relative_to(_ROOT / "tests"))
    for folder in _ORDER
    for test in (_ROOT / "tests" / folder).rglob("test_*.py")
}


@pytest.mark.parametrize("name", sorted(_TESTS - _TOPICS))
def test_test_stands_where_its_module_does(name):
    folder, test = name.rsplit("/", 1)
    bare = {module.replace("/_", "/").removesuffix(".py") for module in _MODULES}
    beside = {module for module in bare if module.rsplit("/", 1)[0] == folder}
    tested = f"{folder}/{test.removeprefix('test_').removesuffix('.py')}"
    assert any(f"{tested}_".startswith(f"{module}_") for module in beside)


def _importers():
    """Returns the files that import each module, except the folders' `__init__`."""
    importers = {_dotted(name): set() for name in _MODULES}
    for name in _NAMES:
        for imported in set(_imported(_tree(name))) & set(importers):
            importers[imported].add(name)
    return importers


def _dotted(name):
    return ".".join(("keras_advdef", *Path(name).with_suffix("").parts))


_IMPORTERS = _importers()


@pytest.mark.parametrize("name", _HELPERS)
def test_helper_stands_beside_its_users(name):
    # Inside the folder that holds the first part with an underscore.
    home, _ = name.split("/_", 1)
    users = _IMPORTERS[_dotted(name)]
    assert users, "nobody imports it"
    assert not {user for user in users if not user.startswith(f"{home}/")}


@pytest.mark.parametrize("name", [name for name in _OPEN if name.startswith("core/")])
def test_ground_carries_other_folders(name):
    users = _IMPORTERS[_dotted(name)]
    assert {user for user in users if not user.startswith("core/")}, "only core uses it"


def _bears_public_names(name):
    return any(
        getattr(public, "__module__", None) == _dotted(name)
        for _, public in public_names()
    )


@pytest.mark.parametrize(
    "name", [name for name in _OPEN if not name.startswith(("core/", "cli/"))]
)
def test_file_without_underscore_is_a_public_name(name):
    assert _bears_public_names(name)


def _code_lines(text):
    """Counts the lines that are neither empty, nor comment, nor docstring."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    free = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, holders) and ast.get_docstring(node, clean=False):
            doc = node.body[0]
            free |= set(range(doc.lineno, doc.end_lineno + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(
        bool(line) and not line.startswith("#") and number not in free
        for number, line in lines
    )


@pytest.mark.parametrize("file", [*_FILES, *_COMMAND], ids=_NAMES + _COMMAND_NAMES)
def test_file_is_short(file):
    assert _code_lines(file.read_text(encoding="utf-8")) <= _LONGEST_FILE


def test_code_is_counted_without_words():
    text = (
        '"""Doc."""\n\n# Why.\na = 1\n\ndef f():\n    """Two\n    lines."""\n    b = 2'
    )
    assert _code_lines(text) == 3


def _body_lines(function):
    body = function.body
    is_text = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    body = body[1:] if is_text and body[1:] else body
    return body[-1].end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("file", [*_FILES, *_COMMAND], ids=_NAMES + _COMMAND_NAMES)
def test_functions_are_short(file):
    lengths = {
        node.name: _body_lines(node)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    long = {key: lines for key, lines in lengths.items() if lines > _LONGEST_FUNCTION}
    assert long == {}


def test_body_is_counted_without_docstring():
    function = ast.parse('def f():\n    """One\n    two."""\n    a = 1\n    b = 2')
    assert _body_lines(function.body[0]) == 2


def _snake_case(name):
    name = name.replace("2D", "2d")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower()


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("PGD", "pgd"),
        ("KLToClean", "kl_to_clean"),
        ("RandomNoise", "random_noise"),
        ("VariationalConv2D", "variational_conv2d"),
    ],
)
def test_snake_case(name, snake):
    assert _snake_case(name) == snake


def _exported_classes():
    """Returns the public classes of each module; those of core bear a topic's name."""
    classes = {}
    for name, public in public_names():
        if inspect.isclass(public) and not name.startswith("core."):
            short = name.rpartition(".")[2]
            classes.setdefault(public.__module__, []).append(short)
    return classes


@pytest.mark.parametrize(("module", "classes"), _exported_classes().items())
def test_file_bears_the_name_of_its_class(module, classes):
    if len(classes) == 1:
        assert module.rsplit(".", 1)[1] == _snake_case(classes[0])


@pytest.mark.parametrize("folder", _ORDER[1:-1])
def test_public_names_are_sorted_and_there(folder):
    module = importlib.import_module(f"keras_advdef.{folder}")
    exported = {name for name in vars(module) if name[0].isupper()}
    assert exported == {name for name in module.__all__ if name[0].isupper()}
    assert all(hasattr(module, name) for name in module.__all__)


def _run(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


_LOADED = """
import json, sys, keras, tensorflow
before = set(sys.modules)
import keras_advdef
print(json.dumps([sorted(set(sys.modules) - before), "scipy.stats" in sys.modules]))
"""


def test_import_loads_nothing_heavy():
    # Keras itself loads some of these if they are installed.
    modules, has_statistics = run_fresh(_LOADED)
    loaded = {name.partition(".")[0] for name in modules}
    heavy = {"PIL", "jinja2", "matplotlib", "rich", "sklearn", "typer"}
    assert "keras_advdef" in loaded
    assert not loaded & {*heavy, "scipy", "tensorflow_probability", "tf_keras"}
    assert not has_statistics


REFUSAL = (
    "ImportError: `keras_advdef` expects the Keras backend to be tensorflow. "
    "Received: jax. Set the environment variable KERAS_BACKEND=tensorflow before "
    "Keras is imported."
)


def test_another_backend_is_refused_before_keras_fails_on_it():
    done = _run("import keras_advdef", KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == REFUSAL


@pytest.mark.slow
def test_another_backend_is_refused_however_it_was_chosen():
    # This works without another backend installed.
    done = _run(
        "import keras; keras.backend.backend = lambda: 'jax'; import keras_advdef"
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == REFUSAL
