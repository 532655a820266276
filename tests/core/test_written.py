import errno
import os

import pytest
import tensorflow as tf

from keras_advdef.core.written import write_text, write_whole, writing


def test_replaces_what_lies_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(partial):
        partial.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_partial_file_keeps_the_suffix(tmp_path):
    seen = []
    write_whole(tmp_path / "a.png", lambda p: (seen.append(p.suffix), p.touch()))
    assert seen == [".png"]


def test_where_it_is_written_cannot_be_guessed(tmp_path):
    seen = []

    def write(partial):
        seen.append(partial.parent)
        assert partial.parent.stat().st_mode & 0o077 == 0
        partial.touch()

    for _ in range(2):
        write_whole(tmp_path / "a", write)
    assert seen[0] != seen[1]
    assert {each.parent for each in seen} == {tmp_path}


def test_links_are_not_followed(tmp_path):
    target = tmp_path / "mine.txt"
    target.write_text("mine")
    link = tmp_path / "a.txt"
    link.symlink_to(target)
    write_text(link, "new")
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
                # As TensorFlow words it.
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
        text = rf"^{reason}.*\. What lay there before is whole\.$"
        with pytest.raises(ZeroDivisionError, match=text), writing(ZeroDivisionError):
            raise error

    def test_other_errors_pass(self):
        with pytest.raises(KeyError), writing(ZeroDivisionError):
            raise KeyError
