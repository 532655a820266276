"""Every example, reproduction and benchmark runs on a few images."""

import os
import re
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
STRENGTHS = sorted((ROOT / "benchmarks").glob("*_strength.py"))


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


def test_there_are_scripts():
    assert len(REPRODUCTIONS) >= 2
    assert len(BENCHMARKS) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("script", REPRODUCTIONS, ids=lambda path: path.stem)
def test_reproduction(script, tmp_path):
    generator = np.random.default_rng(0)
    data, table = tmp_path / "mnist.npz", tmp_path / "table.md"
    arrays = {}
    for part, count in (("train", 300), ("test", 300)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (count, 28, 28), "uint8")
        arrays[f"y_{part}"] = generator.integers(0, 10, count, "uint8")
    np.savez(data, **arrays)
    printed = _run(script, "--data", str(data), "--output", str(table))
    written = table.read_text(encoding="utf-8")
    assert written.strip() in printed
    assert "Command" in written
    assert "PGD-" in written
    assert str(tmp_path) not in written


@pytest.mark.slow
def test_cifar10(tmp_path):
    table = tmp_path / "cifar10.md"
    printed = _run(SCRIPTS / "cifar10.py", "--output", str(table))
    assert table.read_text(encoding="utf-8").strip() in printed
    assert (tmp_path / "cifar10" / "report.html").is_file()
    assert "| accuracy under all attacks " in printed


def _table_on_cifar10(name: str, folder: Path) -> str:
    """Returns what a script printed and wrote to `<folder>/<name>.md`."""
    table = folder / f"{name}.md"
    printed = _run(SCRIPTS / f"{name}_cifar10.py", "--output", str(table))
    written = table.read_text(encoding="utf-8")
    assert written.strip() in printed
    assert str(folder) not in written
    return written


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jpeg_fgsm", "transformations"])
def test_transformations_on_cifar10(name, tmp_path):
    written = _table_on_cifar10(name, tmp_path)
    assert "JPEG" in written
    assert "have been through JPEG once" in " ".join(written.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["randomization", "adv_bnn"])
def test_randomization_on_cifar10(name, tmp_path):
    assert "mean of 10" in _table_on_cifar10(name, tmp_path)
    # Networks and reports stay beside the table for the next run.
    assert (tmp_path / name / "network.keras").is_file()
    assert len(list((tmp_path / name).glob("*/report.md"))) == 1


@pytest.mark.slow
def test_keras_applications():
    printed = _run(ROOT / "examples" / "evaluate_keras_applications.py")
    assert "MobileNetV2: " in printed
    assert "| value range | -1 to 1 |" in printed


@pytest.mark.slow
@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark(script):
    printed = _run(script)
    assert "| ratio" in printed
    assert "CPU cores" in printed


@pytest.mark.slow
@pytest.mark.parametrize("script", STRENGTHS, ids=lambda path: path.stem)
def test_strength(script):
    printed = _run(script)
    assert "keras_advdef" in printed or "AutoAttack" in printed
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
