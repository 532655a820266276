import concurrent.futures
import io
import os
import resource
import signal
import tempfile
import warnings

import numpy as np
import pytest
import tensorflow as tf
import typer
from rich.console import Console

from keras_advdef.cli._console import CommandConsole, OutputClosed
from keras_advdef.cli._exit_on_error import ExitOnError
from keras_advdef.core.value_range import ValueRange


def _outcome(action):
    """Returns the exit code and what was printed."""
    stream = io.StringIO()
    with pytest.raises(typer.Exit) as caught, ExitOnError(Console(file=stream)):
        action()
    return caught.value.exit_code, stream.getvalue()


def _raise(error):
    raise error


class TestExitOnError:
    def test_rejected_value_is_one_line(self):
        code, text = _outcome(lambda: ValueRange.parse("PGD", (1.0, 0.0)))
        assert code == 2
        assert text.startswith("`PGD` expects `value_range`")
        assert text.count("\n") == 1

    def test_oserror_is_one_line(self, tmp_path):
        code, text = _outcome((tmp_path / "none").read_text)
        assert code == 2
        assert "No such file" in text

    def test_interrupt(self):
        code, text = _outcome(lambda: _raise(KeyboardInterrupt()))
        assert (code, text) == (130, "Interrupted; nothing was written.\n")

    def test_termination_cleans_up(self, tmp_path):
        before = signal.getsignal(signal.SIGTERM)

        def work():
            with tempfile.TemporaryDirectory(dir=tmp_path):
                os.kill(os.getpid(), signal.SIGTERM)

        code, text = _outcome(work)
        assert (code, text) == (143, "Terminated; nothing was written.\n")
        assert list(tmp_path.iterdir()) == []
        assert signal.getsignal(signal.SIGTERM) is before

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (signal.SIGINT, (130, "Interrupted; nothing was written.\n")),
            (signal.SIGTERM, (143, "Terminated; nothing was written.\n")),
        ],
    )
    def test_libraries_may_make_an_error_of_a_signal(self, number, expected):
        def work():
            try:
                signal.raise_signal(number)
            except BaseException as error:
                raise tf.errors.UnknownError(None, None, "in a callback") from error

        assert _outcome(work) == expected

    def test_output_that_nobody_reads(self):
        assert _outcome(lambda: _raise(OutputClosed())) == (141, "")

    def test_nobody_reads_the_line_either(self):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            failures = ExitOnError(CommandConsole(file=file))
            with pytest.raises(typer.Exit) as caught, failures:
                raise OSError("full")
        assert caught.value.exit_code == 2

    def test_signals_are_left_alone_in_other_threads(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            done = pool.submit(_outcome, lambda: _raise(OSError("full")))
            assert done.result() == (2, "full\n")

    @pytest.mark.parametrize(
        "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")]
    )
    def test_too_little_memory(self, error):
        code, text = _outcome(lambda: _raise(error))
        assert code == 2
        assert text.startswith("Not enough memory (")
        assert text.count("\n") == 1

    def test_tensors_that_did_not_fit_are_named(self):
        text = "Graph execution error:\nnode Pad\nOOM when allocating tensor with "
        error = tf.errors.ResourceExhaustedError(None, None, f"{text}shape[4,9] and")
        _, said = _outcome(lambda: _raise(error))
        assert "memory (OOM when allocating tensor with shape[4,9]). Use" in said

    def test_what_was_not_foreseen(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        code, text = _outcome(lambda: np.zeros(3).reshape(2))
        assert code == 70
        [file] = tmp_path.iterdir()
        assert text == (
            "Unexpected ValueError: cannot reshape array of size 3 into shape (2,). "
            f"Please report it with its traceback, saved in {file}.\n"
        )
        written = file.read_text()
        assert written.startswith("Traceback (most recent call last)")
        assert "np.zeros(3).reshape(2)" in written

    @pytest.mark.parametrize("error", [TypeError, ValueError])
    def test_defects_of_the_package_are_not_foreseen_either(self, error, monkeypatch):
        # Only errors that refuse an argument count as bad input.
        monkeypatch.setattr(ValueRange, "parse", lambda *given: _raise(error("None")))
        assert _outcome(lambda: ValueRange.parse("PGD", 1))[0] == 70

    def test_full_disk_under_a_defect(self, monkeypatch):
        def fail(**options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "mkstemp", fail)
        code, text = _outcome(lambda: _raise(KeyError("a")))
        assert code == 70
        line = _raise.__code__.co_firstlineno + 1
        assert f"It was raised in {__file__}, line {line}; its traceback" in text
        assert "could not be written (No space left on device)" in text

    def test_disk_that_is_full_in_the_middle(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            code, text = _outcome(lambda: _raise(KeyError("a")))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert code == 70
        assert "could not be written (File too large)" in text
        assert list(tmp_path.iterdir()) == []

    def test_no_folder_for_the_traceback(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        code, text = _outcome(lambda: _raise(KeyError("a")))
        assert code == 70
        assert "could not be written (No such file or directory)" in text

    def test_names_in_a_traceback_need_not_be_text(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        code, text = _outcome(lambda: _raise(KeyError("a\udcff")))
        assert code == 70
        [file] = tmp_path.iterdir()
        assert str(file) in text
        assert "KeyError: 'a" in file.read_text()

    def test_commands_for_the_terminal_are_not_printed(self):
        code, text = _outcome(lambda: _raise(OSError("a \x1b[2J b")))
        assert (code, text) == (2, "a \\x1b[2J b\n")

    def test_warnings_are_lines(self):
        stream, before = io.StringIO(), warnings.showwarning
        with ExitOnError(Console(file=stream)):
            warnings.simplefilter("always")
            warnings.warn("This is\n  odd.", stacklevel=1)
        assert stream.getvalue() == "Warning: This is odd.\n"
        assert warnings.showwarning is before

    @pytest.mark.parametrize("code", [0, 1])
    def test_exits_pass(self, code):
        assert _outcome(lambda: _raise(typer.Exit(code))) == (code, "")

    def test_missing_extras_pass(self):
        error = ModuleNotFoundError("No module named 'PIL'", name="PIL.Image")
        with pytest.raises(ModuleNotFoundError), ExitOnError(Console()):
            raise error
        assert _outcome(lambda: _raise(ModuleNotFoundError("x", name="os")))[0] == 70

    def test_success_is_silent(self, capsys):
        with ExitOnError(Console()):
            pass
        assert capsys.readouterr().out == ""
