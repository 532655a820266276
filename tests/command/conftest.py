"""Runs the command in processes of its own, with or without stand-ins."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Prints, after the command has ended, what it must not have imported.
_LIGHT = """
import sys
import keras_advdef_command
sys.argv[0] = "keras-advdef"
try:
    keras_advdef_command.main()
finally:
    heavy = {"keras", "keras_advdef", "numpy", "tensorflow"}
    print("heavy:", *sorted(heavy & set(sys.modules)))
"""
_STAND_IN = """
import sys
sys.path.insert(1, sys.argv.pop(1))
import keras_advdef_command as c
"""


def _process(command, **options):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.fixture
def typed(tmp_path):
    """Types arguments; returns the process that answered without TensorFlow."""

    def run(*arguments):
        command = [sys.executable, "-c", _LIGHT, *map(str, arguments)]
        done = _process(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
        shown, mark, heavy = done.stdout.rpartition("heavy:")
        assert (mark, heavy.strip()) == ("heavy:", ""), done
        done.stdout = shown
        return done

    return run


@pytest.fixture
def run(tmp_path):
    """Runs `keras-advdef defences` with stand-ins for the package and TensorFlow.

    `loading` is the program of `keras_advdef`, `running` that of the command; the
    latter's folder for temporary files is `tmp`.
    """

    def run(loading="", running="", *, before="", shell="", flags=(), **environment):
        folder = tmp_path / "keras_advdef" / "cli"
        folder.mkdir(parents=True)
        (tmp_path / "tmp").mkdir()
        (folder.parent / "__init__.py").write_text(f"import os, signal\n{loading}\n")
        (folder / "__init__.py").touch()
        (folder / "commands.py").write_text(
            "import os, signal, sys\n"
            f"def defences(name, *, as_json):\n    {running or 'pass'}\n"
        )
        (tmp_path / "tensorflow.py").write_text(
            "class config:\n    list_logical_devices = staticmethod(lambda: [])\n"
        )
        program = f"{_STAND_IN}{before}\nc.main()"
        command = [sys.executable, "-c", program, str(ROOT), "defences", *flags]
        if shell:
            command = ["sh", "-c", f'exec "$0" "$@" {shell}', *command]
        here = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
        return _process(command, cwd=tmp_path, env={**here, **environment})

    return run
