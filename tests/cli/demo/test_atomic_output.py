import os
import shutil
import signal
import tempfile

import pytest

from keras_advdef.cli.demo import _atomic_output as atomic_output_module
from keras_advdef.cli.demo._atomic_output import atomic_output
from keras_advdef.core.files import open_locked

_NAMES = {"files": ("report.json",), "folder": "served"}


def _fill(staging, text):
    (staging / "report.json").write_text(text)
    (staging / "served").mkdir()
    (staging / "served" / "saved_model.pb").write_text(text)


def _interrupted_run(output, error):
    with atomic_output(output, **_NAMES) as staging:
        _fill(staging, "half")
        raise error("stop")


def _listed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestAtomicOutput:
    def test_publishes_and_replaces(self, tmp_path):
        output = tmp_path / "deep" / "out"
        for text in ("old", "new"):
            with atomic_output(output, **_NAMES) as staging:
                _fill(staging, text)
            assert (output / "report.json").read_text() == text
            assert (output / "served" / "saved_model.pb").read_text() == text
        expected = ["report.json", "served", "served/saved_model.pb"]
        assert _listed(output) == expected

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_failure_leaves_nothing(self, tmp_path, error):
        with pytest.raises(error, match="stop"):
            _interrupted_run(tmp_path / "out", error)
        assert _listed(tmp_path) == []

    def test_failure_leaves_the_old(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with atomic_output(tmp_path, **_NAMES) as staging:
            _fill(staging, "old")
        before = _listed(tmp_path)
        with pytest.raises(ValueError, match="stop"):
            _interrupted_run(tmp_path, ValueError)
        assert _listed(tmp_path) == before
        assert (tmp_path / "report.json").read_text() == "old"

    def test_rejects_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("mine")
        with (
            pytest.raises(ValueError, match=r"--output.*a folder.*file"),
            atomic_output(path, **_NAMES),
        ):
            pass
        assert path.read_text() == "mine"

    def test_rejects_a_path_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with (
            pytest.raises(
                ValueError, match=r"written to.*Not a directory\..*Choose another"
            ),
            atomic_output(tmp_path / "file" / "out", **_NAMES),
        ):
            pass

    def test_rejects_a_folder_without_permission(self, tmp_path, monkeypatch):
        def refuse(**options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
        with (
            pytest.raises(ValueError, match=r"written to.*Permission denied"),
            atomic_output(tmp_path / "out", **_NAMES),
        ):
            pass
        assert _listed(tmp_path) == []

    @pytest.mark.parametrize("name", ["report.json", "served"])
    def test_rejects_what_is_foreign(self, tmp_path, name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
        with (
            pytest.raises(ValueError, match=f"{name}.*move it away"),
            atomic_output(tmp_path, **_NAMES),
        ):
            pass
        assert (tmp_path / name / "thesis.txt").read_text() == "mine"

    def test_old_folder_stays_where_the_new_one_cannot_come(self, tmp_path):
        with atomic_output(tmp_path, **_NAMES) as staging:
            _fill(staging, "old")
        with (
            pytest.raises(ValueError, match=r"written to.*No such file"),
            atomic_output(tmp_path, **_NAMES) as staging,
        ):
            (staging / "report.json").write_text("new")
        assert (tmp_path / "served" / "saved_model.pb").read_text() == "old"
        assert (tmp_path / "report.json").read_text() == "old"

    def test_removes_what_a_killed_run_was_writing(self, tmp_path):
        left = tmp_path / ".partial-demo-abc"
        left.mkdir()
        _fill(left, "half")
        (left / "lock").touch()
        with atomic_output(tmp_path, **_NAMES) as staging:
            assert not left.exists()
            _fill(staging, "first")
            # The folder of a run that is still going is left alone.
            with atomic_output(tmp_path, **_NAMES) as other:
                assert staging.exists()
                _fill(other, "second")
        assert (tmp_path / "report.json").read_text() == "first"
        assert {path.name for path in tmp_path.iterdir()} == {"report.json", "served"}

    def test_removes_what_was_killed_before_it_had_a_lock(self, tmp_path):
        (tmp_path / ".partial-demo-abc").mkdir()
        with atomic_output(tmp_path, **_NAMES) as staging:
            _fill(staging, "new")
        assert {path.name for path in tmp_path.iterdir()} == {"report.json", "served"}

    @pytest.mark.parametrize("name", ["folder", "lock"])
    def test_links_are_not_followed(self, tmp_path, name):
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "mine.txt").write_text("mine")
        left = tmp_path / "out" / ".partial-demo-abc"
        left.parent.mkdir()
        if name == "folder":
            left.symlink_to(mine)
        else:
            left.mkdir()
            (left / "lock").symlink_to(mine / "new")
        with atomic_output(tmp_path / "out", **_NAMES) as staging:
            _fill(staging, "new")
        assert [path.name for path in mine.iterdir()] == ["mine.txt"]
        assert (mine / "mine.txt").read_text() == "mine"

    def test_taken_for_a_leftover_it_begins_again(self, tmp_path, monkeypatch):
        """Another run removes this run's folder before it is locked."""
        tries = []

        def late(path):
            tries.append(path)
            if len(tries) == 1:
                shutil.rmtree(path.parent)
            return open_locked(path)

        monkeypatch.setattr(atomic_output_module, "open_locked", late)
        with atomic_output(tmp_path, **_NAMES) as staging:
            _fill(staging, "new")
        assert len(tries) == 2
        assert (tmp_path / "report.json").read_text() == "new"

    def test_interrupted_while_it_is_published(self, tmp_path, monkeypatch):
        replace = os.replace

        def interrupted(source, target):
            signal.raise_signal(signal.SIGINT)
            replace(source, target)

        def run():
            with atomic_output(tmp_path, **_NAMES) as staging:
                _fill(staging, "new")
                monkeypatch.setattr(os, "replace", interrupted)

        with pytest.raises(KeyboardInterrupt):
            run()
        assert _listed(tmp_path) == ["report.json", "served", "served/saved_model.pb"]
