import os

import pytest

from keras_advdef.core import files as lock
from keras_advdef.core.files import lock_at, locked


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert locked(first)
        assert locked(first)
        assert not locked(second)
        first.close()
        assert locked(second)


class TestLockAt:
    def test_one_at_a_time(self, tmp_path):
        path = tmp_path / "lock"
        with lock_at(path):
            assert lock_at(path) is None
            assert path.stat().st_mode & 0o777 == 0o600
        with lock_at(path):
            assert path.exists()

    def test_removed_before_it_was_locked(self, tmp_path, monkeypatch):
        """Another process ends between the opening and the locking of its file."""
        path, tries = tmp_path / "lock", []
        path.touch()

        def late(file):
            tries.append(file)
            if len(tries) == 1:
                path.unlink()
            return locked(file)

        monkeypatch.setattr(lock, "locked", late)
        with lock_at(path) as held:
            assert len(tries) == 2
            assert os.path.samestat(os.fstat(held.fileno()), path.stat())

    def test_links_are_not_followed(self, tmp_path):
        for target in ("mine.txt", "none"):
            (tmp_path / "mine.txt").write_text("mine")
            (tmp_path / "lock").symlink_to(tmp_path / target)
            with pytest.raises(OSError, match="symbolic links"):
                lock_at(tmp_path / "lock")
            (tmp_path / "lock").unlink()
        assert (tmp_path / "mine.txt").read_text() == "mine"
        assert not (tmp_path / "none").exists()

    def test_pipes_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "lock")
        with pytest.raises(OSError, match="no plain file"):
            lock_at(tmp_path / "lock")
