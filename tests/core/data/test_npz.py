import numpy as np
import pytest

from keras_advdef.core.data.npz import load_npz, load_npz_test_images


class TestLoadNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_reads(self, tmp_path, arrays, save):
        path = tmp_path / "data.npz"
        save(path, **arrays)
        dataset = load_npz(str(path))
        assert dataset.name == str(path)
        assert dataset.x_test.shape == (12, 6, 5, 1)

    def test_rejects_half_written(self, npz):
        content = npz.read_bytes()
        npz.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"good\.npz.*not a complete archive"):
            load_npz(str(npz))

    def test_rejects_damaged(self, npz):
        content = bytearray(npz.read_bytes())
        content[200:260] = bytes(60)
        npz.write_bytes(content)
        with pytest.raises(ValueError, match=r"good\.npz.*cannot be read"):
            load_npz(str(npz))

    def test_rejects_plain_array(self, tmp_path):
        path = tmp_path / "plain.npy"
        np.save(path, np.zeros(3))
        with pytest.raises(ValueError, match="not a complete archive"):
            load_npz(str(path))

    def test_names_missing_key(self, tmp_path, arrays):
        path = tmp_path / "data.npz"
        del arrays["y_test"]
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=r"lacks y_test and holds x_train"):
            load_npz(str(path))

    def test_never_reads_objects(self, tmp_path, arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **{**arrays, "y_train": np.array([{}] * 40, dtype=object)})
        with pytest.raises(ValueError, match="allow_pickle=False"):
            load_npz(str(path))

    def test_rejects_what_cannot_be_opened(self, tmp_path):
        with pytest.raises(ValueError, match=r"none\.npz.*No such file"):
            load_npz(str(tmp_path / "none.npz"))


class TestLoadNpzTestImages:
    def test_needs_no_training_images(self, tmp_path, arrays):
        path = tmp_path / "data.npz"
        np.savez(path, x_test=arrays["x_test"], y_test=arrays["y_test"])
        found = load_npz_test_images(str(path))
        assert found.images.shape == (12, 6, 5, 1)
        assert found.description == f"all 12 images of x_test in {path}"
        with pytest.raises(ValueError, match="lacks x_train, y_train"):
            load_npz(str(path))

    def test_names_missing_key(self, tmp_path, arrays):
        path = tmp_path / "data.npz"
        np.savez(path, x_test=arrays["x_test"])
        with pytest.raises(ValueError, match=r"x_test and y_test.*lacks y_test"):
            load_npz_test_images(str(path))
