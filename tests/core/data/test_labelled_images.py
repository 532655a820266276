import numpy as np
import pytest

from keras_advdef.core import untrusted
from keras_advdef.core.data.labelled_images import LabelledImages, to_unit_range


def _images(labels, images=None, **options):
    images = np.full((3, 4, 5), 51, np.uint8) if images is None else images
    options = {"source": "toy", **options}
    return LabelledImages.from_arrays("toy", images=images, labels=labels, **options)


class TestLabelledImages:
    @pytest.mark.parametrize(
        "labels", [[2, 0, 1], [[2], [0], [1]], np.eye(3)[[2, 0, 1]]]
    )
    def test_takes_all(self, labels):
        taken = _images(labels)
        assert taken.images.shape == (3, 4, 5, 1)
        np.testing.assert_allclose(taken.images, 0.2, rtol=1e-6)
        assert taken.labels.tolist() == [2, 0, 1]
        assert taken.description == "all 3 images of toy"
        assert (taken.source, taken.classes) == ("toy", None)

    def test_images_of_few_classes(self):
        # A few images of a data set with a thousand classes.
        assert _images([999, 3, 3]).labels.tolist() == [999, 3, 3]
        assert _images([0, 0, 0]).labels.tolist() == [0, 0, 0]

    def test_says_how_classes_are_numbered(self):
        assert _images([0, 1, 1], classes=("cat", "dog")).description == (
            "all 3 images of toy; classes by name: 0 cat, 1 dog"
        )
        many = tuple(f"c{number}" for number in range(12))
        shortened = _images([0, 1, 1], classes=many).description
        assert shortened.endswith("7 c7, ..., 11 c11")

    @pytest.mark.parametrize(
        ("labels", "text"),
        [
            ([0, 1], r"of shape \(3,\)"),
            ([0, 1, -1], "labels=-1"),
            ([0, 1, 0.5], "whole numbers"),
            ([0, 1, np.nan], "whole numbers"),
            (["a", "b", "c"], "whole numbers"),
            ([], "whole numbers"),
        ],
    )
    def test_rejects_labels(self, labels, text):
        with pytest.raises(ValueError, match=f"`--data toy, y_test`.*{text}"):
            _images(labels)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_black_and_white_is_told(self, dtype):
        pixels = np.arange(60, dtype=dtype).reshape(3, 4, 5) % 2
        with pytest.warns(UserWarning, match="toy, x_test: the whole numbers 0 and 1"):
            found = _images([0, 1, 2], pixels).images
        np.testing.assert_array_equal(found, pixels[..., None])

    @pytest.mark.parametrize("highest", [2, 255])
    def test_dark_images_beside_others_are_no_black_and_white(self, highest):
        train, test = np.zeros((2, 2, 1), np.uint8), np.ones((2, 2, 1), np.uint8)
        train[0, 0, 0] = highest
        one, other = to_unit_range("toy", {"x_train": train, "x_test": test})
        assert one.max() == np.float32(highest) / np.float32(255)
        np.testing.assert_array_equal(other, np.float32(1) / np.float32(255))

    def test_floats_stay_beside_whole_numbers(self):
        floats = np.full((2, 2, 1), 0.5)
        parts = {"x_train": floats, "x_test": np.full((2, 2, 1), 51, np.uint8)}
        one, other = to_unit_range("toy", parts)
        assert (one == 0.5).all()
        np.testing.assert_allclose(other, 0.2, rtol=1e-6)

    def test_memory(self, monkeypatch):
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 1250)
        images = np.zeros((10, 5, 5), np.uint8)
        [found] = to_unit_range("toy", {"x_test": images})
        assert found.dtype == np.float32
        with pytest.raises(ValueError, match=r"fit into memory.*would take 2\.44 KiB"):
            to_unit_range("toy", {"x_train": images, "x_test": images})
