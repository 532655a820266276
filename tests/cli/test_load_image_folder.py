import numpy as np
import pytest
from PIL import Image

from keras_advdef.cli.load_image_folder import load_image_folder


@pytest.fixture
def folder(tmp_path):
    """Ten images of 6 columns and 4 rows: five dark "cat", five bright "dog"."""
    for name, level in (("cat", 20), ("dog", 200)):
        (tmp_path / name).mkdir()
        for index in range(5):
            pixels = np.full((4, 6, 3), level + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    return tmp_path


class TestLoadImageFolder:
    def test_reads_and_splits(self, folder):
        dataset = load_image_folder(str(folder))
        assert dataset.x_train.shape == (8, 4, 6, 3)
        assert dataset.x_test.shape == (2, 4, 6, 3)
        assert dataset.classes == 2
        np.testing.assert_array_equal(np.sort(dataset.y_test), [0, 1])
        bright = dataset.x_train.mean(axis=(1, 2, 3)) > 0.5
        np.testing.assert_array_equal(bright, dataset.y_train == 1)

    def test_grey_images_keep_one_channel(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for index in range(2):
                image = Image.fromarray(np.full((4, 4), index * 9, np.uint8))
                image.save(tmp_path / name / f"{index}.png")
        assert load_image_folder(str(tmp_path)).x_train.shape == (2, 4, 4, 1)

    def test_mixes_grey_and_colour(self, folder):
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(folder / "cat" / "0.png")
        assert load_image_folder(str(folder)).x_train.shape == (8, 4, 6, 3)

    def test_passes_over_other_files(self, folder):
        (folder / "cat" / "notes.txt").write_text("not an image")
        (folder / ".hidden").mkdir()
        assert load_image_folder(str(folder)).classes == 2

    def test_rejects_folder_without_classes(self, tmp_path):
        with pytest.raises(ValueError, match="0 subfolders"):
            load_image_folder(str(tmp_path))

    def test_rejects_empty_class(self, folder):
        (folder / "bird").mkdir()
        with pytest.raises(ValueError, match="'bird' has 0 images"):
            load_image_folder(str(folder))

    def test_rejects_sizes_that_differ(self, folder):
        odd = folder / "dog" / "3.png"
        Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(odd)
        with pytest.raises(ValueError, match=r"3\.png of 6x5.*is 6x4"):
            load_image_folder(str(folder))

    def test_rejects_half_written_image(self, folder):
        broken = folder / "dog" / "3.png"
        broken.write_bytes(broken.read_bytes()[:40])
        with pytest.raises(ValueError, match=r"readable images.*3\.png"):
            load_image_folder(str(folder))

    def test_rejects_deep_pixels(self, folder):
        deep = np.full((4, 6), 40000, np.uint16)
        Image.fromarray(deep).save(folder / "dog" / "3.png")
        with pytest.raises(ValueError, match="8 bits a channel"):
            load_image_folder(str(folder))
