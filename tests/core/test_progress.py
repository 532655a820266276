import sys
import threading

import numpy as np

from keras_advdef.attacks import PGD
from keras_advdef.core.progress import (
    LineProgress,
    Progress,
    meter,
    progress_of,
    time_left,
)


def test_silence(capsys):
    Progress().line("a")
    Progress().update("PGD", left=1, seconds=1.0)
    assert capsys.readouterr().out == ""


def test_a_line_when_an_attack_begins(capsys):
    progress = LineProgress()
    for left in (10, 5):
        progress.update("PGD", left=left, seconds=None)
    progress.update("Square", left=5, seconds=61.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "PGD: 10 images left",
        "Square: 5 images left, about 1 min 1 s to go",
    ]


def test_nothing_but_text_reaches_the_terminal(capsys):
    LineProgress().line("a \x1b[2J b\nc")
    assert capsys.readouterr().out == "a \\x1b[2J b\\nc\n"


def test_there_may_be_no_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # As under pythonw and `>&-`.
    LineProgress().line("a")


def test_time_left():
    assert time_left(None) == ""
    assert time_left(5.0) == ", about 5 s to go"
    assert time_left(0.2) == ", about 1 s to go"


def test_counts_traces_once_and_rows_of_every_step(net, images, labels):
    attack = PGD(0.001, steps=3)
    counted = []
    for _ in range(2):
        tracing, rows = meter.tracing, meter.rows
        attack.generate(net, images, labels, stop_early=True, verbose=0)
        counted.append((meter.tracing - tracing, meter.rows - rows))
    standing = int((net.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    for _, rows in counted:
        # Batches are padded; misclassified images leave at once.
        assert 3 * standing <= rows <= 3 * len(images)
    assert counted[0][0] > 0.0
    assert counted[1][0] == 0.0


def test_threads_count_for_themselves():
    def count():
        meter.rows += 5
        seen.append(meter.rows)

    before, seen = meter.rows, []
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    assert seen == [5]
    assert meter.rows == before
    assert np.isfinite(meter.tracing)


def test_progress_of_a_users_argument():
    for verbose in ("auto", 1, True):
        assert isinstance(progress_of(verbose), LineProgress)
    for verbose in (0, False, "no"):
        assert type(progress_of(verbose)) is Progress
    mine = Progress()
    assert progress_of(mine) is mine
