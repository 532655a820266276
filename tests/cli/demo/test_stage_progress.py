import io

import pytest
from rich.console import Console

from keras_advdef.cli.demo._stage_progress import StageProgress


class TestStageProgress:
    def test_plain_lines_off_a_terminal(self):
        stream = io.StringIO()
        progress = StageProgress(Console(file=stream, width=20))
        with progress.stage("Train a long name", 8) as advance:
            for step in range(8):
                advance(f"loss {step}")
        lines = stream.getvalue().splitlines()
        notes = [f"Train a long name: {n}/8  loss {n - 1}" for n in (2, 4, 6, 8)]
        assert lines[:-1] == notes
        assert lines[-1].startswith("Train a long name: done in ")
        assert list(progress.seconds) == ["Train a long name"]

    def test_bar_on_a_terminal(self):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, width=100)
        progress = StageProgress(console)
        with progress.stage("Attack [x]", 2) as advance:
            advance("half")
            advance("whole")
        shown = stream.getvalue()
        assert "Attack [x]" in shown
        assert "2/2  whole" in shown

    def test_failed_stage_is_not_called_done(self):
        stream = io.StringIO()
        progress = StageProgress(Console(file=stream))
        with pytest.raises(ValueError, match="stop"), progress.stage("Train", 1):
            raise ValueError("stop")
        assert "done" not in stream.getvalue()

    def test_line_is_verbatim(self):
        stream = io.StringIO()
        progress = StageProgress(Console(file=stream, width=10))
        progress.line("a/long/path/[with]/brackets")
        assert stream.getvalue() == "a/long/path/[with]/brackets\n"
