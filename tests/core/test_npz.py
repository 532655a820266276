import io
import warnings
import zipfile

import numpy as np
import pytest

from keras_advdef.core import untrusted
from keras_advdef.core.untrusted import read_npz


class Refused(Exception):
    pass


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {
        "whole": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "single": np.array(7),
        "none": np.zeros((0, 4), np.float32),
        "big_endian": np.arange(3, dtype=">i4"),
    }
    np.savez_compressed(path, **arrays)
    return path


class TestReadNpz:
    def test_equals_numpy(self, path):
        found = read_npz(path, Refused)
        with np.load(path) as expected:
            assert list(found) == expected.files
            for name, array in found.items():
                np.testing.assert_array_equal(array, expected[name])
                assert array.dtype == expected[name].dtype

    def test_chosen_names(self, path):
        assert list(read_npz(path, Refused, names=["single"])) == ["single"]
        with pytest.raises(Refused, match="lacks other and holds whole, columns"):
            read_npz(path, Refused, names=["whole", "other"])

    def test_second_version_of_the_format(self, tmp_path):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.arange(3), version=(2, 0))
        with zipfile.ZipFile(tmp_path / "second.npz", "w") as archive:
            archive.writestr("a.npy", content.getvalue())
        found = read_npz(tmp_path / "second.npz", Refused)
        np.testing.assert_array_equal(found["a"], np.arange(3))

    def test_long_names_are_cut(self, tmp_path):
        name = "x" * 60000
        for names in ([name], [name, name]):
            with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
                for each in names:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # of the second
                        archive.writestr(each, b"")
            with pytest.raises(Refused, match=r"x{37}") as caught:
                read_npz(tmp_path / "a.npz", Refused, names=["a"])
            assert len(str(caught.value)) < 100

    @pytest.mark.parametrize("descr", ["<U0", "|S0", "|V0"])
    def test_elements_without_bytes(self, tmp_path, descr):
        # A trillion of them fits into any file.
        content = io.BytesIO()
        np.save(content, np.zeros(10, np.uint8))
        claim = content.getvalue()[:-10].replace(b"(10,)", b"(10000000000000000,)")
        claim = claim.replace(b"|u1", descr.encode())[:128].ljust(128)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", claim)
        with pytest.raises(Refused, match="its elements have no bytes"):
            read_npz(tmp_path / "a.npz", Refused)

    def test_budget(self, path, monkeypatch):
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 500)
        with pytest.raises(Refused, match="What it holds would take"):
            read_npz(path, Refused)
        assert read_npz(path, Refused, names=["whole"])["whole"].sum() == 15

    def test_claims_are_compared_before_memory_is_taken(self, tmp_path):
        content = io.BytesIO()
        np.save(content, np.zeros(10, np.uint8))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            claim = content.getvalue().replace(b"(10,)", b"(99,)")
            archive.writestr("a.npy", claim)
        text = "a cannot be read .its header claims 99 bytes, and it has 10"
        with pytest.raises(Refused, match=text):
            read_npz(tmp_path / "a.npz", Refused)
