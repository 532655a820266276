import numpy as np
import pytest

from keras_advdef.cli.labelled_images import LabelledImages, unit_images
from keras_advdef.core import untrusted


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
        assert taken.taken == "all 3 images of toy"

    def test_images_of_few_classes(self):
        # A few images of a data set with a thousand classes.
        assert _images([999, 3, 3]).labels.tolist() == [999, 3, 3]
        assert _images([0, 0, 0]).labels.tolist() == [0, 0, 0]

    def test_says_how_classes_are_numbered(self):
        assert _images([0, 1, 1], classes=("cat", "dog")).taken == (
            "all 3 images of toy; classes by name: 0 cat, 1 dog"
        )
        many = tuple(f"c{number}" for number in range(12))
        assert _images([0, 1, 1], classes=many).taken.endswith("7 c7, ..., 11 c11")

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
    def test_black_and_white(self, dtype):
        pixels = np.arange(60, dtype=dtype).reshape(3, 4, 5) % 2
        np.testing.assert_array_equal(
            _images([0, 1, 2], pixels).images, pixels[..., None]
        )

    def test_memory(self, monkeypatch):
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 1000)
        images = np.zeros((10, 5, 5), np.uint8)
        assert unit_images("toy", images).dtype == np.float32
        with pytest.raises(ValueError, match=r"fit into memory.*would take 1\.95 KiB"):
            unit_images("toy", np.zeros((10, 10, 5), np.uint8))
