"""What the command does before it loads the package, tested with a stand-in."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START = (
    "import sys; sys.path.insert(1, sys.argv[1]); import keras_advdef_command as c; "
)


@pytest.fixture
def run(tmp_path):
    """Runs the command with a stand-in package made of the given program."""

    def run(loading="", running="", *, before="", shell="", **environment):
        folder = tmp_path / "keras_advdef" / "cli"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text(f"import os, signal\n{loading}\n")
        program = f"import os, signal, sys\ndef main():\n    {running or 'pass'}\n"
        (folder / "__init__.py").write_text(program)
        command = [sys.executable, "-c", f"{START}{before}c.main()", str(ROOT)]
        if shell:
            command = ["sh", "-c", f'exec "$0" "$@" {shell}', *command]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "Interrupted.\n"), (signal.SIGTERM, 143, "Terminated.\n")],
)
@pytest.mark.parametrize("phase", ["loading", "running"])
def test_a_signal_ends_it_with_one_line(run, number, code, line, phase):
    done = run(**{phase: f"os.kill(os.getpid(), {int(number)}); raise SystemExit(3)"})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line)


def test_signals_that_are_ignored_stay_so(run):
    before = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    done = run(running="os.kill(os.getpid(), signal.SIGINT)", before=before)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_number_of_a_closed_stream(run, tmp_path, closed):
    running = (
        "file = open('number', 'w'); file.write(str(file.fileno())); "
        "print('a', flush=True); print('b', file=sys.stderr, flush=True)"
    )
    assert run(running=running, shell=closed).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2


def test_letters_that_the_terminal_does_not_know(run):
    running = "print('z\\u00e4\\udcff')"
    done = run(running=running, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "z\\xe4\\udcff\n")


def test_what_keeps_it_from_loading_is_one_line(run):
    done = run(loading="raise ImportError('Set KERAS_BACKEND.')")
    expected = "keras-advdef cannot be loaded: Set KERAS_BACKEND.\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_defects_have_a_code_of_their_own(run):
    done = run(running="1 / 0")
    assert done.returncode == 70
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
