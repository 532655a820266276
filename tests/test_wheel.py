"""The wheel holds every file of the package, and works on its own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keras_advdef import __all__ as folders
from keras_advdef import __version__

_ROOT = Path(__file__).parents[1]
_SOURCES = (
    "LICENSE",
    "README.md",
    "keras_advdef",
    "keras_advdef_command",
    "pyproject.toml",
    "setup.cfg",
)


def _python(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left among the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    sources.mkdir()
    for name in _SOURCES:
        path = _ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, sources / name, ignore=ignored)
        else:
            shutil.copy(path, sources)
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    _python(*build, "--no-index", "--wheel-dir", str(folder), str(sources))
    return folder / f"keras_advdef-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds only what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    packages = ("keras_advdef", "keras_advdef_command")
    expected = {
        path.relative_to(_ROOT).as_posix()
        for package in packages
        for path in (_ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in names if name.partition("/")[0] in packages}
    assert found == expected
    assert "keras_advdef/py.typed" in names
    assert [name for name in names if name.endswith("templates/report.html")]


def test_wheel_installs_the_command(wheel):
    with zipfile.ZipFile(wheel) as file:
        name = f"keras_advdef-{__version__}.dist-info/entry_points.txt"
        text = file.read(name).decode()
    assert "keras-advdef = keras_advdef_command:main" in text


def _run(installed, script):
    environment = {"PYTHONPATH": str(installed), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return _python("-c", script, env={**os.environ, **environment}, cwd=installed)


@pytest.mark.nightly
def test_installed_command_works(installed):
    pytest.importorskip("typer", reason="the command line needs the extra `all`")
    script = (
        "import sys, keras_advdef_command\n"
        "sys.argv = ['keras-advdef', {!r}]\n"
        "keras_advdef_command.main()\n"
    )
    assert _run(installed, script.format("--version")).strip() == __version__
    assert "JPEGCompression" in _run(installed, script.format("defences"))


_REPORT = f"""
import importlib, pathlib
for folder in {folders!r}:
    importlib.import_module("keras_advdef." + folder)
import keras, numpy as np, keras_advdef
assert pathlib.Path(keras_advdef.__file__).is_relative_to(pathlib.Path.cwd())
net = keras.Sequential(
    [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
images = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype("float32")
report = keras_advdef.evaluation.evaluate_robustness(
    net, images, np.arange(6) % 3, epsilon=0.1, budget="quick", output="report")
print(pathlib.Path("report/report.html").read_text()[:15])
"""


@pytest.mark.nightly
def test_installed_package_writes_a_report(installed):
    pytest.importorskip("jinja2", reason="reports need the extra `all`")
    assert "<!doctype html>" in _run(installed, _REPORT).lower()
