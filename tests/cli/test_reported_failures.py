import io

import numpy as np
import pytest
import typer
from rich.console import Console

from keras_advdef.cli.reported_failures import reported_failures
from keras_advdef.core.value_range import ValueRange


def _outcome(action):
    """Returns the exit code and what was printed."""
    stream = io.StringIO()
    with pytest.raises(typer.Exit) as caught, reported_failures(Console(file=stream)):
        action()
    return caught.value.exit_code, stream.getvalue()


def _raise(error):
    raise error


class TestReportedFailures:
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

    def test_defects_keep_their_traceback(self):
        with pytest.raises(ValueError, match="reshape"), reported_failures(Console()):
            np.zeros(3).reshape(2)

    def test_success_is_silent(self, capsys):
        with reported_failures(Console()):
            pass
        assert capsys.readouterr().out == ""
