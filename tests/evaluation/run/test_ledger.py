import contextlib
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_advdef.core.files import open_locked
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._run.ledger import Ledger, check_identity, remove_parts
from keras_advdef.evaluation._run.sealed import (
    record_digest,
    write_record,
    write_sealed,
)
from tests.support.damages import BYTES, DAMAGES
from tests.support.marks import needs_pipes
from tests.support.told import Told


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def opened(tmp_path, told):
    """Opens the ledger of an evaluation with seed 0."""
    return lambda: Ledger(tmp_path, {"seed": 0}, told)


def values(value):
    return lambda: {"a": np.array([value]), "b": np.arange(3)}


def written(ledger, *names):
    """Computes parts with the value 1 and ends, as if stopped."""
    for name in names:
        ledger.part(name, values(1), f"part {name}")
    ledger.close(finished=False)


class TestLedger:
    def test_parts_are_computed_once(self, opened, tmp_path):
        ledger = opened()
        first = ledger.part("one", values(1), "one")
        again = ledger.part("one", values(2), "one")
        assert first.keys() == again.keys()
        assert again["a"].tolist() == [1]
        ledger.close(finished=False)
        later = opened()
        assert later.part("one", values(3), "one")["a"].tolist() == [1]
        later.close(finished=True)
        assert not (tmp_path / "progress").exists()

    def test_sections_keep_their_parts_apart(self, opened, tmp_path):
        ledger = opened()
        ledger.part("one", values(1), "one")
        with ledger.section("l2"):
            assert ledger.part("one", values(2), "one")["a"].tolist() == [2]
        assert ledger.part("one", values(3), "one")["a"].tolist() == [1]
        ledger.close(finished=False)
        later = opened()
        with contextlib.suppress(ZeroDivisionError), later.section("l2"):
            assert later.part("one", values(3), "one")["a"].tolist() == [2]
            raise ZeroDivisionError
        assert later.part("one", values(3), "one")["a"].tolist() == [1]
        later.close(finished=True)
        assert not (tmp_path / "progress").exists()

    def test_keeps_nothing_without_a_folder(self, told):
        ledger = Ledger(None, {}, told)
        assert ledger.part("one", values(1), "one")["a"].tolist() == [1]
        assert ledger.part("one", values(2), "one")["a"].tolist() == [2]
        ledger.close(finished=True)
        assert told.lines == []

    def test_failed_part_leaves_nothing(self, opened, tmp_path):
        ledger = opened()
        with pytest.raises(ZeroDivisionError):
            ledger.part("one", lambda: {"a": np.array(1 / 0)}, "one")
        ledger.close(finished=False)
        assert not (tmp_path / "progress").exists()
        written(opened(), "two")
        ledger = opened()
        with pytest.raises(ZeroDivisionError):
            ledger.part("one", lambda: {"a": np.array(1 / 0)}, "one")
        ledger.close(finished=False)
        names = {path.name for path in (tmp_path / "progress").iterdir()}
        assert names == {"identity.json", "lock", "two.part"}

    @pytest.mark.parametrize("there", [False, True])
    def test_evaluation_without_parts_leaves_no_folder(self, there, tmp_path, told):
        output = tmp_path / "out"
        if there:
            output.mkdir()
        Ledger(output, {"seed": 0}, told).close(finished=False)
        assert list(tmp_path.iterdir()) == ([output] if there else [])

    def test_other_identity_is_refused_by_name(self, tmp_path, told):
        written(Ledger(tmp_path, {"seed": 0, "norm": "l2"}, told), "one")
        with pytest.raises(ValueError, match="has another seed; choose a new one"):
            Ledger(tmp_path, {"seed": 1, "norm": "l2"}, told)
        Ledger(tmp_path, {"seed": 0, "norm": "l2"}, told).close(finished=False)

    def test_two_at_once_are_refused(self, opened):
        ledger = opened()
        with pytest.raises(ValueError, match="no other evaluation uses"):
            opened()
        ledger.close(finished=False)

    def test_says_that_it_goes_on_and_where(self, opened, told):
        written(opened(), "one", "two")
        assert told.lines == []
        ledger = opened()
        for name in ("one", "two", "three", "four"):
            ledger.part(name, values(2), f"part {name}")
        ledger.close(finished=False)
        (begun, goes_on) = told.lines
        assert begun.startswith("Resuming this evaluation: 2 finished parts ")
        assert goes_on == "Continuing with part three."

    def test_removes_its_own_files_only(self, opened, tmp_path):
        ledger = opened()
        (tmp_path / "progress" / "mine.txt").write_text("mine")
        ledger.close(finished=True)
        names = [path.name for path in (tmp_path / "progress").iterdir()]
        assert names == ["mine.txt"]

    def test_removes_what_a_killed_process_was_writing(self, opened, tmp_path):
        written(opened(), "one")
        left = [
            tmp_path / name
            for name in ("progress/.partial-ab_cdef0", ".partial-12345678")
        ]
        others = [tmp_path / ".partial-mine"]
        for path in (*left, *others):
            path.mkdir()
        opened().close(finished=False)
        assert [path for path in (*left, *others) if path.exists()] == others

    def test_nobody_comes_in_before_all_is_removed(self, opened, tmp_path, monkeypatch):
        ledger = opened()
        ledger.part("one", values(1), "one")
        held = []

        def unlink(path, **options):
            held.append(open_locked(tmp_path / "progress" / "lock") is None)
            return remove(path, **options)

        remove = Path.unlink
        monkeypatch.setattr(Path, "unlink", unlink)
        ledger.close(finished=True)
        assert held == [True, True, True]

    def test_parts_behind_a_finished_report_are_removed(self, opened, tmp_path, told):
        written(opened(), "one")
        remove_parts(tmp_path, {"seed": 1})
        assert (tmp_path / "progress" / "one.part").exists()
        remove_parts(tmp_path, {"seed": 0})
        assert list(tmp_path.iterdir()) == []
        remove_parts(tmp_path, {"seed": 0})
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    @pytest.mark.parametrize("damage", BYTES)
    def test_damaged_part_is_computed_again(self, damage, opened, tmp_path, told):
        written(opened(), "one", "two")
        path = tmp_path / "progress" / "one.part"
        whole = path.read_bytes()
        BYTES[damage](path)
        ledger = opened()
        assert ledger.part("one", values(1), "part one")["a"].tolist() == [1]
        assert ledger.part("two", values(3), "part two")["a"].tolist() == [1]
        ledger.close(finished=False)
        assert path.read_bytes() == whole
        expected = f"{path} is damaged; computing it again: part one."
        assert told.lines[1:] == [expected]

    def test_part_of_no_arrays_is_computed_again(self, opened, tmp_path, told):
        # Sound by its checksum, which anybody can compute.
        written(opened(), "one")
        ledger = opened()
        about = f"one of {record_digest(ledger.identity, 'identity.json')}"
        write_sealed(tmp_path / "progress" / "one.part", b"no archive", about)
        assert ledger.part("one", values(2), "part one")["a"].tolist() == [2]
        ledger.close(finished=False)
        assert "one.part is damaged; computing it again" in told.lines[-1]

    @pytest.mark.parametrize("record", [{}, {"identity": 3}, {"identity": ["seed"]}])
    def test_identity_of_other_values_is_refused(self, record, opened, tmp_path):
        written(opened(), "one")
        path = tmp_path / "progress" / "identity.json"
        write_record(path, record, "identity.json")
        with pytest.raises(ValueError, match=r"identity\.json in it.*is damaged"):
            opened()

    def test_names_in_an_identity_are_cut(self, tmp_path):
        found = {str(number) + "x" * 5000: 0 for number in range(5000)}
        with pytest.raises(ValueError, match=r"has another 0x+") as caught:
            check_identity(tmp_path, found, {"seed": 0})
        assert len(str(caught.value)) < 1000
        with pytest.raises(ValueError, match="has another seed"):
            check_identity(tmp_path, None, {"seed": 0})

    @needs_pipes
    def test_pipe_for_a_lock_is_refused(self, opened, tmp_path):
        (tmp_path / "progress").mkdir()
        os.mkfifo(tmp_path / "progress" / "lock")
        with pytest.raises(ValueError, match="It is not a regular file"):
            opened()

    def test_part_of_another_evaluation_or_name_does_not_count(self, opened, tmp_path):
        written(Ledger(tmp_path / "other", {"seed": 1}, Progress()), "one", "two")
        written(opened(), "four")
        other, own = tmp_path / "other" / "progress", tmp_path / "progress"
        shutil.copy(other / "one.part", own / "one.part")
        shutil.copy(other / "two.part", own / "three.part")
        ledger = opened()
        for name in ("one", "three"):
            assert ledger.part(name, values(2), name)["a"].tolist() == [2]
        ledger.close(finished=False)

    def test_folder_in_the_place_of_a_part_is_refused(self, opened, tmp_path):
        written(opened(), "one")
        DAMAGES["folder"](tmp_path / "progress" / "one.part")
        ledger = opened()
        with pytest.raises(ValueError, match=r"progress/one\.part in it is a folder"):
            ledger.part("one", values(2), "one")
        ledger.close(finished=False)
        assert (tmp_path / "progress" / "one.part" / "mine.txt").exists()

    @pytest.mark.parametrize("damage", [*BYTES, "folder"])
    def test_damaged_identity_is_refused(self, damage, opened, tmp_path):
        written(opened(), "one")
        DAMAGES[damage](tmp_path / "progress" / "identity.json")
        with pytest.raises(ValueError, match=r"progress/identity\.json in it, which"):
            opened()
        assert (tmp_path / "progress" / "one.part").exists()

    def test_lost_identity_is_written_again(self, opened, tmp_path):
        written(opened(), "one")
        (tmp_path / "progress" / "identity.json").unlink()
        ledger = opened()
        assert ledger.part("one", values(2), "one")["a"].tolist() == [1]
        ledger.close(finished=False)

    @pytest.mark.parametrize("damage", ["foreign", "gone"])
    def test_bytes_of_the_lock_say_nothing(self, damage, opened, tmp_path):
        written(opened(), "one")
        DAMAGES[damage](tmp_path / "progress" / "lock")
        written(opened(), "one")

    def test_folder_in_the_place_of_the_lock_is_refused(self, opened, tmp_path):
        written(opened(), "one")
        DAMAGES["folder"](tmp_path / "progress" / "lock")
        with pytest.raises(ValueError, match=r"Is a directory \(.*lock\)"):
            opened()

    def test_link_in_the_place_of_the_lock_is_not_followed(self, opened, tmp_path):
        (tmp_path / "progress").mkdir()
        (tmp_path / "mine.txt").write_text("mine")
        (tmp_path / "progress" / "lock").symlink_to(tmp_path / "mine.txt")
        with pytest.raises(ValueError, match="a folder that can be written to"):
            opened()
        assert (tmp_path / "mine.txt").read_text() == "mine"

    def test_link_in_the_place_of_the_folder_is_not_followed(self, opened, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / ".partial-12345678").mkdir()
        (tmp_path / "progress").symlink_to(tmp_path / "mine")
        with pytest.raises(ValueError, match="progress in it is a link; move it away"):
            opened()
        assert [path.name for path in (tmp_path / "mine").iterdir()] == [
            ".partial-12345678"
        ]

    @pytest.mark.parametrize("place", ["out", "out/progress"])
    def test_file_in_the_place_of_a_folder(self, place, tmp_path):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        with pytest.raises(ValueError, match="a folder that can be written to"):
            Ledger(tmp_path / "out", {}, Progress())
        assert path.read_text() == "mine"


class TestDisks:
    def test_room_is_asked_for_beforehand(self, opened, tmp_path, monkeypatch):
        written(opened(), "one")
        there = (tmp_path / "progress" / "one.part").stat().st_size
        free = 100 + 16 * 2**20
        disk = shutil.disk_usage(tmp_path)._replace(total=2**40, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
        ledger = opened()
        ledger.check_room(100 + there)
        with pytest.raises(
            ValueError, match=r"to be a folder that can.* 16 MiB are free\. Make room"
        ):
            ledger.check_room(101 + there)
        ledger.close(finished=False)
        assert (tmp_path / "progress" / "one.part").exists()
        Ledger(None, {}, Progress()).check_room(2**60)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
    def test_full_or_closed_disk_is_a_sentence(
        self, code, opened, tmp_path, monkeypatch
    ):
        written(opened(), "one")
        before = sorted((tmp_path / "progress").iterdir())

        def fail(descriptor):
            raise OSError(code, os.strerror(code))

        ledger = opened()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(
                ValueError, match=rf"{os.strerror(code)}\. Finished par"
            ):
                ledger.part("two", values(1), "two")
        ledger.close(finished=False)
        assert sorted((tmp_path / "progress").iterdir()) == before
        ledger = opened()
        assert ledger.part("one", values(2), "one")["a"].tolist() == [1]
        ledger.close(finished=False)

    @pytest.mark.parametrize("gone", ["progress", "."])
    def test_folder_that_vanishes_is_a_sentence(self, gone, tmp_path, told):
        output = tmp_path / "out"
        ledger = Ledger(output, {}, told)

        def compute():
            shutil.rmtree(output / gone)
            return values(1)()

        with pytest.raises(ValueError, match=r"No such file or directory\. Finished"):
            ledger.part("one", compute, "one")
        ledger.close(finished=False)
        assert not (output / gone).exists()


def test_check_identity_names_all_differences(tmp_path):
    with pytest.raises(ValueError, match="another data, model"):
        check_identity(tmp_path, {"data": 1, "model": 1}, {"data": 2, "model": 3})
