import concurrent.futures
import errno
import os
import shutil
import signal
import stat
from collections import namedtuple

import pytest
import tensorflow as tf

from keras_advdef.core import files
from keras_advdef.core.files import (
    atomic_replace,
    atomic_write,
    atomic_write_text,
    check_disk_space,
    open_locked,
    remove_partial_files,
    try_lock,
    uninterrupted,
    write_errors_as,
)

Disk = namedtuple("Disk", ["total", "used", "free"])


def test_replaces_what_lies_there(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def fail(partial):
        partial.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_file_and_its_name_are_on_the_disk(tmp_path, monkeypatch):
    synced = []

    def sync(descriptor):
        there = (tmp_path / "a.txt").exists()
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), there))

    monkeypatch.setattr(os, "fsync", sync)
    atomic_write_text(tmp_path / "a.txt", "new")
    assert synced == [(False, False), (True, True)]


def test_what_a_killed_process_leaves_can_be_removed(tmp_path):
    seen = []

    def write(partial):
        seen.append(partial.parent)
        partial.write_text("half")

    atomic_write(tmp_path / "a.txt", write)
    seen[0].mkdir()
    (seen[0] / "a.txt").write_text("half")
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_links_are_no_leftovers(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine")
    (tmp_path / ".partial-12345678").symlink_to(tmp_path / "mine")
    remove_partial_files(tmp_path)
    assert (tmp_path / "mine" / "mine.txt").read_text() == "mine"


def test_partial_file_keeps_the_suffix(tmp_path):
    seen = []
    atomic_write(tmp_path / "a.png", lambda p: (seen.append(p.suffix), p.touch()))
    assert seen == [".png"]


def test_where_it_is_written_cannot_be_guessed(tmp_path):
    seen = []

    def write(partial):
        seen.append(partial.parent)
        assert partial.parent.stat().st_mode & 0o077 == 0
        partial.touch()

    for _ in range(2):
        atomic_write(tmp_path / "a", write)
    assert seen[0] != seen[1]
    assert {each.parent for each in seen} == {tmp_path}


def test_links_are_not_followed(tmp_path):
    target = tmp_path / "mine.txt"
    target.write_text("mine")
    link = tmp_path / "a.txt"
    link.symlink_to(target)
    atomic_write_text(link, "new")
    assert target.read_text() == "mine"
    assert link.read_text() == "new"
    assert not link.is_symlink()


class TestWriting:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OSError(errno.ENOSPC, "No space left on device", "a"), "No space left"),
            (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such"),
            (
                # TensorFlow's wording.
                tf.errors.ResourceExhaustedError(
                    None,
                    None,
                    "{{function_node __wrapped__SaveV2_device_/CPU:0}} a/part-0.tmp12; "
                    "No space left on device [Op:SaveV2]",
                ),
                "No space left on device",
            ),
            (
                tf.errors.PermissionDeniedError(
                    None, None, "served; Read-only file system"
                ),
                "Read-only file system",
            ),
            (OSError("h5py failed.\n"), "h5py failed"),
        ],
    )
    def test_says_what_the_disk_says(self, error, reason):
        text = rf"^{reason}.*\. Existing files are unchanged\.$"
        with (
            pytest.raises(ZeroDivisionError, match=text),
            write_errors_as(ZeroDivisionError),
        ):
            raise error

    @pytest.mark.parametrize(
        "error", [KeyError(), tf.errors.InvalidArgumentError(None, None, "shapes")]
    )
    def test_other_errors_pass(self, error):
        with pytest.raises(type(error)), write_errors_as(ZeroDivisionError):
            raise error


def _saved_model(folder, text):
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (folder / name).write_text(text)


def _stopped(folder):
    """Writes half a SavedModel and fails."""
    _saved_model(folder, "half")
    (folder / "assets").mkdir()
    (folder / "assets").mkdir()


def _written_twice(path):
    """Writes half a file and fails."""
    path.write_text("half")
    (path / "other half").write_text("half")


def _contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestCheckRoom:
    @pytest.mark.parametrize(("total", "free"), [(9, 5), (0, 0)])
    def test_fits(self, tmp_path, monkeypatch, total, free):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total, 0, free))
        check_disk_space(tmp_path, 5, ValueError)

    def test_does_not_fit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(2**30, 0, 2**20))
        said = "No space left on device: 3 MiB are needed, but only 1 MiB are free."
        with pytest.raises(ValueError, match=said):
            check_disk_space(tmp_path, 3 * 2**20, ValueError)


class TestReplacing:
    def test_replaces(self, tmp_path):
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "stale.txt").write_text("old")
        (tmp_path / "mine.txt").write_text("mine")
        _saved_model(tmp_path, "old")
        with atomic_replace(tmp_path):
            _saved_model(tmp_path, "new")
        assert _contents(tmp_path) == {
            "mine.txt": "mine",
            "saved_model.pb": "new",
            "variables/variables.index": "new",
        }

    def test_puts_back(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        _saved_model(tmp_path, "old")
        before = _contents(tmp_path)
        with pytest.raises(FileExistsError), atomic_replace(tmp_path):
            _stopped(tmp_path)
        assert _contents(tmp_path) == before
        assert not (tmp_path / "assets").exists()

    def test_interrupted_twice(self, tmp_path, monkeypatch):
        """A second Ctrl-C arrives while the old model is restored."""
        _saved_model(tmp_path, "old")
        before = _contents(tmp_path)
        remove = shutil.rmtree

        def interrupted(path, **options):
            signal.raise_signal(signal.SIGINT)
            remove(path, **options)

        def write():
            with atomic_replace(tmp_path):
                _saved_model(tmp_path, "half")
                monkeypatch.setattr(shutil, "rmtree", interrupted)
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            write()
        assert _contents(tmp_path) == before

    def test_what_cannot_be_put_aside_stays(self, tmp_path, monkeypatch):
        _saved_model(tmp_path, "old")
        before = _contents(tmp_path)
        replace = os.replace

        def refuse(source, target):
            if source.name == "variables":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            replace(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(PermissionError), atomic_replace(tmp_path):
            pass
        assert _contents(tmp_path) == before
        assert not [*tmp_path.glob(".partial-*")]

    @pytest.mark.parametrize("old", [None, "old"])
    def test_files(self, tmp_path, old):
        path = tmp_path / "model.onnx"
        if old:
            path.write_text(old)
        with pytest.raises(NotADirectoryError), atomic_replace(path):
            _written_twice(path)
        assert _contents(tmp_path) == ({"model.onnx": old} if old else {})

    def test_new_folder_goes(self, tmp_path):
        with pytest.raises(FileExistsError), atomic_replace(tmp_path / "served"):
            _stopped(tmp_path / "served")
        assert list(tmp_path.iterdir()) == []


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert try_lock(first)
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)


class TestLockAt:
    def test_one_at_a_time(self, tmp_path):
        path = tmp_path / "lock"
        with open_locked(path):
            assert open_locked(path) is None
            assert path.stat().st_mode & 0o777 == 0o600
        with open_locked(path):
            assert path.exists()

    def test_removed_before_it_was_locked(self, tmp_path, monkeypatch):
        """Another process ends between opening and locking its file."""
        path, tries = tmp_path / "lock", []
        path.touch()

        def late(file):
            tries.append(file)
            if len(tries) == 1:
                path.unlink()
            return try_lock(file)

        monkeypatch.setattr(files, "try_lock", late)
        with open_locked(path) as held:
            assert len(tries) == 2
            assert os.path.samestat(os.fstat(held.fileno()), path.stat())

    def test_links_are_not_followed(self, tmp_path):
        for target in ("mine.txt", "none"):
            (tmp_path / "mine.txt").write_text("mine")
            (tmp_path / "lock").symlink_to(tmp_path / target)
            with pytest.raises(OSError, match="symbolic links"):
                open_locked(tmp_path / "lock")
            (tmp_path / "lock").unlink()
        assert (tmp_path / "mine.txt").read_text() == "mine"
        assert not (tmp_path / "none").exists()

    def test_pipes_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "lock")
        with pytest.raises(OSError, match="not a regular file"):
            open_locked(tmp_path / "lock")


class Stopped(BaseException):
    pass


@pytest.fixture
def handlers():
    """Handlers that raise, as in a program; the old ones are restored afterwards."""

    def stop(number, frame):
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    yield dict.fromkeys(numbers, stop)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_body_ends_first(handlers, number):
    done = []

    def work():
        with uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(Stopped, match=str(int(number))):
        work()
    assert done == [1]
    assert {each: signal.getsignal(each) for each in handlers} == handlers


def test_errors_of_the_body_pass(handlers):
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert {each: signal.getsignal(each) for each in handlers} == handlers


def test_unhandled_signals_are_left_alone(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with uninterrupted():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_other_threads(handlers):
    def work():
        with uninterrupted():
            return {each: signal.getsignal(each) for each in handlers}

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == handlers
