import numpy as np
import pytest

from keras_advdef.core.data.dataset import Dataset


class TestDataset:
    def test_scales_bytes_and_adds_channels(self, arrays):
        dataset = Dataset.from_arrays("toy", **arrays)
        assert dataset.x_train.shape == (40, 6, 5, 1)
        assert dataset.x_train.dtype == np.float32
        assert dataset.y_train.dtype == np.int64
        assert dataset.classes == 2
        expected = arrays["x_train"][..., np.newaxis] / 255
        np.testing.assert_allclose(dataset.x_train, expected, atol=1e-7)

    def test_keeps_unit_floats(self, arrays):
        floats = {**arrays, "x_train": np.full((40, 6, 5, 3), 0.25)}
        floats["x_test"] = np.full((12, 6, 5, 3), 0.75)
        dataset = Dataset.from_arrays("toy", **floats)
        assert dataset.x_train.shape == (40, 6, 5, 3)
        assert (dataset.x_train == 0.25).all()

    def test_column_and_one_hot_labels_equal_plain_ones(self, arrays):
        column = {**arrays, "y_train": arrays["y_train"][:, np.newaxis]}
        one_hot = {**arrays, "y_train": np.eye(2)[arrays["y_train"]]}
        plain = Dataset.from_arrays("toy", **arrays)
        for other in (column, one_hot):
            labels = Dataset.from_arrays("toy", **other).y_train
            np.testing.assert_array_equal(labels, plain.y_train)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("x_train", np.full((40, 6, 5), 255.0), r"value range.*\(255\.0, 255\.0\)"),
            ("x_train", np.full((40, 6, 5), -1), r"\[0, 255\].*images=\(-1, -1\)"),
            ("x_train", np.full((40, 6, 5), np.nan), "image 0 holds NaN"),
            ("x_train", np.zeros((40, 6, 5), bool), "array of numbers"),
            ("x_train", np.zeros((40, 6)), "shape"),
            ("x_train", np.zeros((0, 6, 5)), "non-empty"),
            ("x_train", np.zeros((40, 3, 6, 5), np.uint8), "channels last"),
            ("x_test", np.zeros((12, 6, 6)), r"\(6, 5, 1\).*x_test=\(6, 6, 1\)"),
            ("y_train", np.zeros(40, int), "two classes"),
            ("y_train", np.full(40, 1000), "labels=1000"),
            ("y_train", np.arange(39) % 2, r"y_train.*shape \(39,\)"),
            ("y_train", np.arange(40) % 2 - 1, r"labels=0|labels=-1"),
            ("y_train", np.full(40, np.nan), "whole numbers"),
            ("y_train", np.array(["a", "b"] * 20), "whole numbers"),
            ("y_train", np.arange(40) % 2 + 0.5, "numbers"),
            ("y_test", np.full(12, 2), r"y_test.*\[0, 2\).*labels=2"),
            ("y_test", np.full(12, np.nan), "y_test.*whole numbers"),
            ("y_test", np.zeros(0), "y_test.*whole numbers"),
        ],
    )
    def test_rejects(self, arrays, key, value, message):
        with pytest.raises(ValueError, match=f"`--data toy.*{message}"):
            Dataset.from_arrays("toy", **{**arrays, key: value})

    def test_subsample_draws_without_order(self, arrays):
        dataset = Dataset.from_arrays("toy", **arrays)
        small = dataset.subsample(train=10, test=4, seed=0)
        assert small.x_train.shape == (10, 6, 5, 1)
        assert small.y_test.shape == (4,)
        # Bright images are class 1: images and labels stay together.
        bright = small.x_train.mean(axis=(1, 2, 3)) > 0.5
        np.testing.assert_array_equal(bright, small.y_train == 1)
        again = dataset.subsample(train=10, test=4, seed=0)
        np.testing.assert_array_equal(small.x_train, again.x_train)

    def test_subsample_leaves_small_sets_alone(self, arrays):
        dataset = Dataset.from_arrays("toy", **arrays)
        assert dataset.subsample(train=40, test=12, seed=0) is dataset
