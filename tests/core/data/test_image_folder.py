import numpy as np
import pytest
from PIL import Image

from keras_advdef.core.data.image_folder import (
    load_folder_test_images,
    load_image_folder,
)


def _fill(folder, **counts):
    """Images of 6 columns and 4 rows: "cat" and "bird" are dark, "dog" is bright."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((4, 6, 3), 200 * (name == "dog") + index, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return _fill(tmp_path, cat=5, dog=5)


@pytest.fixture
def parted(tmp_path):
    """`train/` with birds, cats and dogs, `test/` without birds."""
    _fill(tmp_path / "train", bird=1, cat=2, dog=3)
    _fill(tmp_path / "test", cat=1, dog=3)
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
        with pytest.raises(ValueError, match="0 subfolders; sort the images"):
            load_image_folder(str(tmp_path))

    def test_names_the_folder_that_is_meant(self, tmp_path):
        _fill(tmp_path / "train", cat=2, dog=3)
        with pytest.raises(ValueError, match=r"1 subfolder; .*train are the classes"):
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
        with pytest.raises(ValueError, match="8 bits per channel"):
            load_image_folder(str(folder))

    def test_parts(self, parted):
        dataset = load_image_folder(str(parted))
        assert dataset.classes == 3
        assert dataset.y_train.tolist() == [0, 1, 1, 2, 2, 2]
        assert dataset.y_test.tolist() == [1, 2, 2, 2]
        bright = dataset.x_test.mean(axis=(1, 2, 3)) > 0.5
        np.testing.assert_array_equal(bright, dataset.y_test == 2)

    def test_classes_may_be_called_train_and_test(self, tmp_path):
        Image.new("L", (4, 4)).save(tmp_path / "0.png")
        for name in ("test", "train"):
            (tmp_path / name).mkdir()
            for index in range(2):
                Image.new("L", (4, 4)).save(tmp_path / name / f"{index}.png")
        assert load_image_folder(str(tmp_path)).x_train.shape == (2, 4, 4, 1)
        assert len(load_folder_test_images(str(tmp_path)).images) == 4

    def test_folders_of_other_parts(self, folder, tmp_path):
        _fill(tmp_path / "all" / "train", cat=2, dog=2)
        _fill(tmp_path / "all" / "val", cat=2, dog=2)
        with pytest.raises(
            ValueError, match=r"folders are the classes, pass .*train\."
        ):
            load_image_folder(str(tmp_path / "all"))

    def test_unknown_class_in_test(self, parted):
        _fill(parted / "test", fish=1)
        for load in (load_image_folder, load_folder_test_images):
            with pytest.raises(ValueError, match="train/ lacks fish"):
                load(str(parted))


class TestLoadFolderTestImages:
    def test_takes_all(self, folder):
        found = load_folder_test_images(str(folder))
        assert found.images.shape == (10, 4, 6, 3)
        assert found.description == (
            f"all 10 images of {folder}; classes by name: 0 cat, 1 dog"
        )
        # Each image occurs once, with its own class.
        levels = np.sort(np.rint(255 * found.images[:, 0, 0, 0]))
        assert levels.tolist() == [0, 1, 2, 3, 4, 200, 201, 202, 203, 204]
        bright = found.images.mean(axis=(1, 2, 3)) > 0.5
        np.testing.assert_array_equal(bright, found.labels == 1)

    def test_every_beginning_holds_all_classes(self, tmp_path):
        # Small budgets use the first images, which in name order would all be cats.
        labels = load_folder_test_images(str(_fill(tmp_path, cat=30, dog=10))).labels
        assert [int(labels[:count].sum()) for count in (8, 20, 40)] == [2, 5, 10]

    def test_one_image_a_class(self, tmp_path):
        found = load_folder_test_images(str(_fill(tmp_path, cat=1, dog=1)))
        assert sorted(found.labels.tolist()) == [0, 1]

    def test_test_part(self, parted):
        found = load_folder_test_images(str(parted))
        # Numbered as in training, which has birds.
        assert sorted(found.labels.tolist()) == [1, 2, 2, 2]
        assert found.description == (
            f"all 4 images of {parted / 'test'}; classes by name: 0 bird, 1 cat, 2 dog"
        )
        assert found.classes == ("bird", "cat", "dog")
        assert found.source == str(parted / "test")

    def test_test_part_alone(self, tmp_path):
        _fill(tmp_path / "test", cat=1, dog=3)
        found = load_folder_test_images(str(tmp_path))
        assert sorted(found.labels.tolist()) == [0, 1, 1, 1]
