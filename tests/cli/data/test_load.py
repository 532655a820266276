import numpy as np
import pytest
from PIL import Image

from keras_advdef.cli.data import load
from keras_advdef.cli.data.load import load_dataset, load_test_images
from keras_advdef.core.data.dataset import Dataset


class TestLoadDataset:
    def test_digits(self):
        dataset = load_dataset("digits")
        assert dataset.x_train.shape == (1397, 8, 8, 1)
        assert dataset.x_test.shape == (400, 8, 8, 1)
        assert (dataset.x_train.min(), dataset.x_train.max()) == (0.0, 1.0)
        # Sixteen grey levels, exactly.
        levels = 16 * dataset.x_test
        np.testing.assert_array_equal(levels, np.round(levels))
        assert np.bincount(dataset.y_test).min() >= 38
        np.testing.assert_array_equal(load_dataset("digits").y_test, dataset.y_test)

    def test_npz(self, npz):
        assert load_dataset(str(npz)).classes == 2

    def test_folder(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for index in range(2):
                image = Image.fromarray(np.full((4, 4), index, np.uint8))
                image.save(tmp_path / name / f"{index}.png")
        assert load_dataset(str(tmp_path)).x_train.shape == (2, 4, 4, 1)

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
    def test_names_of_keras(self, monkeypatch, arrays, name):
        monkeypatch.setattr(
            load, "load_keras_dataset", lambda spec: Dataset.from_arrays(spec, **arrays)
        )
        found = load_dataset(name)
        assert found.name == name
        assert ("cat" in found.class_names) == (name == "cifar10")

    @pytest.mark.parametrize("spec", ["mnits", "no/such/file.npz", ""])
    def test_rejects_unknown(self, spec):
        with pytest.raises(ValueError, match=f"digits, mnist.*--data='{spec}'"):
            load_dataset(spec)

    def test_names_that_no_file_has(self):
        with pytest.raises(ValueError, match="cannot be opened: File name too long"):
            load_dataset("a" * 5000)


class TestLoadTestImages:
    def test_known_names_have_a_test_part(self):
        found = load_test_images("digits")
        np.testing.assert_array_equal(found.images, load_dataset("digits").x_test)
        assert found.description == "all 400 images of the test part of digits"

    def test_known_classes_have_names(self, monkeypatch, arrays):
        monkeypatch.setattr(
            load, "load_keras_dataset", lambda name: Dataset.from_arrays(name, **arrays)
        )
        assert load_test_images("cifar10").classes[3] == "cat"
        assert len(load_test_images("fashion_mnist").classes) == 10
        # The classes of digits are called by their numbers.
        assert load_test_images("mnist").classes is None

    def test_npz(self, npz, arrays):
        np.testing.assert_array_equal(
            load_test_images(str(npz)).labels, arrays["y_test"]
        )

    def test_folder(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            Image.new("L", (4, 4)).save(tmp_path / name / "0.png")
        assert load_test_images(str(tmp_path)).images.shape == (2, 4, 4, 1)

    @pytest.mark.parametrize("spec", ["mnits", "no/such/file.npz", ""])
    def test_rejects_unknown(self, spec):
        with pytest.raises(ValueError, match=f"digits, mnist.*--data='{spec}'"):
            load_test_images(spec)
