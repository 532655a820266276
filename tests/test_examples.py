"""Every example, reproduction and benchmark runs on a few images.

Most of that is nightly. The gate runs a few scripts whole, loads all of them, and holds
their calls against the signatures of what they call.
"""

import ast
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "examples" / "reproductions"
REPRODUCTIONS = sorted(SCRIPTS.glob("*_mnist.py"))
# `small_cifar10.py` is what the scripts share, and not a script.
_PARTS = ("", "jpeg_fgsm_", "transformations_", "randomization_", "adv_bnn_")
ON_CIFAR10 = [SCRIPTS / f"{part}cifar10.py" for part in _PARTS]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*_speed.py"))
STRENGTHS = [
    *sorted((ROOT / "benchmarks").glob("*_strength.py")),
    ROOT / "benchmarks" / "check_passes.py",
    ROOT / "benchmarks" / "smallest_perturbations.py",
]
APPLICATIONS = ROOT / "examples" / "evaluate_keras_applications.py"
SEVERAL = ROOT / "examples" / "multi_worker.py"
STATIC = ROOT / "examples" / "static_adversarial_training.py"
# What the gate runs whole, in its own process.
IN_GATE = ("goodfellow_mnist", "projection_speed")


def _marked(name: str) -> object:
    """A case that is nightly unless the gate runs it."""
    marks = () if name in IN_GATE else (pytest.mark.nightly,)
    return pytest.param(name, marks=marks)


@pytest.fixture
def loaded(monkeypatch):
    """Runs a script in this process, and forgets what it imports from its folder."""
    before = set(sys.modules)

    def load(script: Path, *arguments: str, name: str = "loaded") -> dict:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        monkeypatch.syspath_prepend(str(script.parent))
        return runpy.run_path(str(script), run_name=name)

    yield load
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).parent in (SCRIPTS, ROOT / "benchmarks"):
            del sys.modules[name]


def _run(script: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(script), "--smoke", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def run(loaded, capsys):
    """Runs a script with `--smoke`, and returns what it printed."""

    def run(script: Path, *arguments: str) -> str:
        if script.stem not in IN_GATE:
            return _run(script, *arguments)
        loaded(script, "--smoke", *arguments, name="__main__")
        return capsys.readouterr().out

    return run


def test_there_are_scripts():
    assert len(REPRODUCTIONS) >= 2
    assert len(BENCHMARKS) >= 2
    stems = {script.stem for script in (*REPRODUCTIONS, *ON_CIFAR10, *BENCHMARKS)}
    assert set(IN_GATE) <= stems


def _has_main(script: Path) -> bool:
    return "\ndef main() -> None:" in script.read_text(encoding="utf-8")


ALL = [
    script
    for folder in (ROOT / "examples", SCRIPTS, ROOT / "benchmarks")
    for script in sorted(folder.glob("*.py"))
    if _has_main(script)
]


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_script_loads_and_explains_itself(script, loaded, capsys):
    assert {*REPRODUCTIONS, *ON_CIFAR10, *BENCHMARKS, *STRENGTHS} < {*ALL}
    names = loaded(script, "--help")
    with pytest.raises(SystemExit, match=r"^0$"):
        names["main"]()
    assert capsys.readouterr().out.startswith(f"usage: {script.name} [-h]")


def _calls_of_ours(tree: ast.AST, names: dict):
    """Yields each call of what comes from this package, with what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(
            node.func, ast.Name | ast.Attribute
        ):
            name, *attributes = ast.unparse(node.func).split(".")
            found = names.get(name)
            for attribute in attributes:
                found = getattr(found, attribute, None)
            if (getattr(found, "__module__", None) or "").startswith("keras_advdef"):
                yield node, found


def wrong_calls(tree: ast.AST, names: dict) -> list[str]:
    """The calls with arguments that the package's signatures do not have."""
    wrong = []
    for node, found in _calls_of_ours(tree, names):
        given = [each for each in node.args if not isinstance(each, ast.Starred)]
        named = dict.fromkeys(each.arg for each in node.keywords if each.arg)
        try:
            inspect.signature(found).bind_partial(*given, **named)
        except TypeError as error:
            wrong.append(f"{ast.unparse(node)}: {error}")
    return wrong


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_script_calls_what_there_is(script, loaded):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = loaded(script)
    assert wrong_calls(tree, names) == []
    assert script.parent == ROOT / "benchmarks" or any(_calls_of_ours(tree, names))


def test_calls_of_what_is_not_there_are_found():
    def load(path, text):
        """Stands for a function of the package."""

    load.__module__ = "keras_advdef.evaluation"
    tree = ast.parse("load(1, 2); load(1, 2, 3); load(1, txt=2); load(*a, **b)")
    assert [each.partition(":")[0] for each in wrong_calls(tree, {"load": load})] == [
        "load(1, 2, 3)",
        "load(1, txt=2)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", [_marked(each.stem) for each in REPRODUCTIONS])
def test_reproduction(name, run, tmp_path):
    generator = np.random.default_rng(0)
    data, table = tmp_path / "mnist.npz", tmp_path / "table.md"
    arrays = {}
    for part, count in (("train", 300), ("test", 300)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (count, 28, 28), "uint8")
        arrays[f"y_{part}"] = generator.integers(0, 10, count, "uint8")
    np.savez(data, **arrays)
    script = SCRIPTS / f"{name}.py"
    printed = run(script, "--data", str(data), "--output", str(table))
    written = table.read_text(encoding="utf-8")
    assert written.strip() in printed
    assert "Command" in written
    assert "PGD-" in written
    assert str(tmp_path) not in written


@pytest.mark.slow
@pytest.mark.nightly
def test_cifar10(run, tmp_path):
    table = tmp_path / "cifar10.md"
    printed = run(SCRIPTS / "cifar10.py", "--output", str(table))
    assert table.read_text(encoding="utf-8").strip() in printed
    assert (tmp_path / "cifar10" / "report.html").is_file()
    assert "| accuracy under all attacks " in printed


@pytest.fixture
def table_of(run, tmp_path):
    """Returns what a script printed and wrote to `<folder>/<script>.md`."""

    def table_of(name: str) -> str:
        table = tmp_path / f"{name}.md"
        printed = run(SCRIPTS / f"{name}.py", "--output", str(table))
        written = table.read_text(encoding="utf-8")
        assert written.strip() in printed
        assert str(tmp_path) not in written
        return written

    return table_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [_marked("jpeg_fgsm_cifar10"), _marked("transformations_cifar10")]
)
def test_transformations_on_cifar10(name, table_of):
    written = table_of(name)
    assert "JPEG" in written
    assert "have been through JPEG once" in " ".join(written.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [_marked("randomization_cifar10"), _marked("adv_bnn_cifar10")]
)
def test_randomization_on_cifar10(name, table_of, tmp_path):
    assert "mean of 10" in table_of(name)
    # Networks and reports stay beside the table for the next run.
    folder = tmp_path / name
    assert (folder / "network.keras").is_file()
    assert len(list(folder.glob("*/report.md"))) == 1


@pytest.mark.slow
@pytest.mark.nightly
def test_static_adversarial_training():
    rows = [line for line in _run(STATIC).splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["trained by", "plain", "static", "ensemble", "PGD-7"]


@pytest.mark.slow
@pytest.mark.nightly
def test_multi_worker_on_one_machine(tmp_path):
    printed = _run(SEVERAL, "--output", str(tmp_path))
    assert "worker 0: losses [" in printed
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_keras_applications():
    printed = _run(APPLICATIONS)
    assert "MobileNetV2: " in printed
    assert "| value range | -1 to 1 |" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", [_marked(each.stem) for each in BENCHMARKS])
def test_benchmark(name, run):
    printed = run(ROOT / "benchmarks" / f"{name}.py")
    assert "| ratio" in printed
    assert "CPU cores" in printed


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("script", STRENGTHS, ids=lambda path: path.stem)
def test_strength(script):
    printed = _run(script)
    assert any(name in printed for name in ("PGD", "AutoAttack", "FMN"))
    assert "CPU cores" in printed


def test_results_name_no_folder_of_a_machine():
    folders = (ROOT / "examples", ROOT / "benchmarks")
    for file in (file for folder in folders for file in folder.rglob("*.md")):
        assert not re.search(r"--\w+ /", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    "script", [*REPRODUCTIONS, *ON_CIFAR10], ids=lambda path: path.stem
)
def test_table_is_committed_and_linked(script):
    table = script.with_suffix(".md")
    assert "Command" in table.read_text(encoding="utf-8")
    link = table.relative_to(ROOT).as_posix()
    page = ROOT / "docs" / "reproductions.md"
    assert link in page.read_text(encoding="utf-8")
