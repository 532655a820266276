"""What native code writes while the package is loaded, tested with stand-ins."""

import os
import signal
import subprocess
import tempfile

import pytest

from keras_advdef_command.load_package import kept_back

_NOISE = "E0000 failed call to cuInit\n"
_WRITES = f"os.write(2, {_NOISE.encode()!r}); "


def test_is_not_shown(run):
    done = run(_WRITES, "os.write(2, b'later\\n')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "later\n")


def test_is_shown_to_those_who_ask(run):
    running = "print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    done = run(_WRITES, running, flags=["--verbose"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", _NOISE)


@pytest.mark.parametrize("chosen", [{}, {"TF_CPP_MIN_LOG_LEVEL": "1"}])
def test_later_lines_are_errors_unless_the_user_chose(run, chosen):
    done = run(running="print(os.environ['TF_CPP_MIN_LOG_LEVEL'])", **chosen)
    assert done.stdout == f"{chosen.get('TF_CPP_MIN_LOG_LEVEL', '2')}\n"


def test_is_shown_where_loading_fails(run):
    done = run(f"{_WRITES}raise ImportError('Set KERAS_BACKEND.')")
    expected = f"{_NOISE}keras-advdef cannot be loaded: Set KERAS_BACKEND.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_is_shown_before_the_traceback_of_a_defect(run):
    done = run(f"{_WRITES}1 / 0")
    assert done.returncode == 70
    assert done.stderr.startswith(f"{_NOISE}Traceback (most recent call last)")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("environment", [{}, {"PYTHONFAULTHANDLER": "1"}])
def test_crashes_are_told(run, environment):
    done = run(f"{_WRITES}os.abort()", **environment)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.startswith("Fatal Python error: Aborted\n")
    assert "load_package" in done.stderr


def test_is_shown_where_it_cannot_be_kept(run, tmp_path):
    done = run(_WRITES, TMPDIR=str(tmp_path / "none"), before=_NO_FOLDER)
    assert (done.returncode, done.stderr) == (0, _NOISE)


# Python would look for other folders.
_NO_FOLDER = "import tempfile; tempfile._candidate_tempdir_list = lambda: []"


def test_a_kill_leaves_nothing_behind(run, tmp_path):
    listing = "print(os.listdir('tmp'), flush=True); "
    done = run(f"{_WRITES}{listing}os.kill(os.getpid(), signal.SIGKILL)")
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert done.stdout == "[]\n"
    assert list((tmp_path / "tmp").iterdir()) == []


def _fail(error):
    with kept_back():
        os.write(2, b"native\n")
        raise error


class TestKeptBack:
    def test_restores(self, capfd):
        before = os.fstat(2)
        with kept_back():
            os.write(2, b"native\n")
            subprocess.run(["sh", "-c", "echo child >&2"], check=True)
        assert os.path.samestat(before, os.fstat(2))
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "after\n"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_errors_show_it(self, capfd, error):
        with pytest.raises(error):
            _fail(error)
        assert capfd.readouterr().err == "native\n"

    def test_body_may_raise_what_a_full_disk_raises(self, monkeypatch, capfd):
        def fail():
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(OSError, match="mine"):
            _fail(OSError("mine"))
        assert capfd.readouterr().err == "native\n"
