import math

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.labels import (
    checked_class_labels,
    checked_labels,
    soft_labels,
    sparse_labels,
)


class TestCheckedLabels:
    @pytest.mark.parametrize(
        "labels",
        [
            [2, 0],
            [[2], [0]],
            [2.0, 0.0],
            np.array([2, 0], np.uint8),
            [[0, 0, 1], [1, 0, 0]],
            [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]],
            [[False, False, True], [True, False, False]],
        ],
    )
    def test_becomes_integers(self, labels):
        checked = checked_labels("PGD", labels, count=2, classes=3)
        assert checked.dtype == np.int64
        assert checked.tolist() == [2, 0]

    @pytest.mark.parametrize(
        "labels", [[0], [0, 1, 2], [[0, 1], [1, 0]], 0, ["a", "b"], [True, False]]
    )
    def test_rejects_shape_and_kind(self, labels):
        rule = r"of shape \(2,\) with integers, or \(2, 3\) one-hot"
        with pytest.raises(ValueError, match=f"`PGD` expects `labels` to be {rule}"):
            checked_labels("PGD", labels, count=2, classes=3)

    @pytest.mark.parametrize("labels", [[0.5, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
    def test_rejects_fractions(self, labels):
        with pytest.raises(ValueError, match="`labels` to be whole numbers"):
            checked_labels("PGD", labels, count=2, classes=3)

    @pytest.mark.parametrize(
        "row", [[1, 0, 1], [0, 0, 0], [math.nan, 0, 1], [0.5, 0.6, -0.1], [0.9, 0.8, 0]]
    )
    @pytest.mark.parametrize("classes", [3, None])
    def test_rejects_rows_that_do_not_name_one_class(self, row, classes):
        labels = [[0.0, 1.0, 0.0], row]
        rule = "rows that sum to 1 over the classes; row 1 does not.*Give each image"
        with pytest.raises(ValueError, match=rule):
            checked_labels("PGD", labels, count=2, classes=classes)

    def test_half_precision_rows_are_no_reason(self):
        rows = np.full((1, 1000), 1e-3, np.float16)
        assert checked_labels("PGD", rows, count=1, classes=1000).tolist() == [0]

    def test_without_a_number_of_classes_any_may_be_meant(self):
        labels = [7, 0]
        checked = checked_labels("PGD", labels, count=2, classes=None)
        assert checked.tolist() == labels
        with pytest.raises(ValueError, match="at least 0, the classes"):
            checked_labels("PGD", [-1, 0], count=2, classes=None)

    @pytest.mark.parametrize(("labels", "wrong"), [([1, 3], 3), ([-1, 2], -1)])
    def test_rejects_classes_the_model_lacks(self, labels, wrong):
        rule = rf"in \[0, 3\), the classes of the model\. Received: labels={wrong}"
        with pytest.raises(ValueError, match=rule):
            checked_labels("PGD", labels, count=2, classes=3)


class TestSparseLabels:
    @pytest.mark.parametrize(
        "labels",
        [
            [2, 0],
            np.array([[2], [0]], np.int32),
            [2.0, 0.0],
            [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
        ],
    )
    def test_becomes_int64(self, labels):
        sparse = sparse_labels(labels)
        assert sparse.dtype == tf.int64
        assert sparse.numpy().tolist() == [2, 0]

    def test_in_a_graph_of_unknown_batch(self):
        spec = tf.TensorSpec((None, 3))
        traced = tf.function(sparse_labels, input_signature=[spec])
        assert traced(tf.constant([[0.0, 0.0, 1.0]])).numpy().tolist() == [2]


class TestSoftLabels:
    def test_rows_stay_what_they_are(self):
        rows = np.array([[0.2, 0.8], [1.0, 0.0]], np.float64)
        soft = soft_labels(rows)
        assert soft.dtype == tf.float32
        np.testing.assert_allclose(soft, rows)

    @pytest.mark.parametrize(
        "labels", [[1, 0], [[1], [0]], [[0, 1], [1, 0]], [[0.0, 1.0], [1.0, 0.0]]]
    )
    def test_one_class_each_is_integers(self, labels):
        assert soft_labels(labels).numpy().tolist() == [1, 0]

    def test_a_graph_cannot_know(self):
        traced = tf.function(soft_labels)
        assert traced(tf.constant([[0.0, 1.0]])).shape == (1, 2)
        assert traced(tf.constant([[0, 1]])).numpy().tolist() == [1]


class TestCheckedClassLabels:
    @pytest.mark.parametrize("classes", [3, None])
    @pytest.mark.parametrize(
        "labels",
        [
            [2, 0],
            [[2], [0]],
            [2.0, 0.0],
            [[0, 0, 1], [1, 0, 0]],
            np.array([[0, 0, 1], [1, 0, 0]], "float16"),
            np.array([[False, False, True], [True, False, False]]),
        ],
    )
    def test_one_class_each(self, labels, classes):
        found = checked_class_labels("certify", labels, count=2, classes=classes)
        assert found.tolist() == [2, 0]
        assert found.dtype == "int64"

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (
                [[0.9, 0.1, 0.0], [1, 0, 0]],
                r"labels=\[0.9, 0.1, 0.0\]. Pass `labels",
            ),
            ([[0.0, 1.0, 1.0], [1, 0, 0]], "`certify` expects `labels`"),
            ([[0.0, 0.0, 0.0], [1, 0, 0]], "`certify` expects `labels`"),
            ([3, 0], r"in \[0, 3\)"),
            ([0], r"of shape \(2,\)"),
        ],
    )
    def test_no_class_is_refused(self, labels, message):
        with pytest.raises(ValueError, match=message):
            checked_class_labels("certify", labels, count=2, classes=3)
