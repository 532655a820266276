import math

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.value_range import (
    ValueRange,
    check_values,
    checked_images,
    checked_labels,
    soft_labels,
    sparse_labels,
)

_UNIT = ValueRange()
_BYTES = ValueRange(0.0, 255.0)


class TestValueRange:
    @pytest.mark.parametrize("value", [(0, 255), [0.0, 255.0], (np.int64(0), 255)])
    def test_parse(self, value):
        parsed = ValueRange.parse("PGD", value)
        assert parsed == (0.0, 255.0)
        assert [type(end) for end in parsed] == [float, float]

    @pytest.mark.parametrize(
        "value", [None, 1.0, "01", (0,), (0, 1, 2), (1, 0), (1, 1)]
    )
    def test_parse_rejects_what_is_no_pair_in_order(self, value):
        rule = r"`PGD` expects `value_range` to be a pair \(low, high\) of finite"
        with pytest.raises(ValueError, match=rule):
            ValueRange.parse("PGD", value)

    @pytest.mark.parametrize("value", [(0, math.inf), (math.nan, 1), (False, 1)])
    def test_parse_rejects_what_is_no_finite_number(self, value):
        with pytest.raises(ValueError, match="`value_range` to be a finite number"):
            ValueRange.parse("PGD", value)

    @pytest.mark.parametrize("to", ["to_unit", "from_unit"])
    def test_unit_range_is_the_identity_to_the_bit(self, to):
        # -0.0 and 0.1 would not survive an addition or a division of rounded numbers.
        images = np.array([-0.0, 0.1, 1 / 3, 1.0], np.float32)
        assert getattr(_UNIT, to)(images) is images

    def test_by_hand(self):
        # (50 - (-100)) / (300 - (-100)) = 150 / 400 = 0.375, and back.
        pixels = ValueRange(-100.0, 300.0)
        assert pixels.span == 400.0
        assert pixels.to_unit(50.0) == 0.375
        assert pixels.from_unit(0.375) == 50.0
        assert not pixels.is_unit

    def test_maps_bytes(self):
        unit = _BYTES.to_unit(np.array([0, 51, 255], np.uint8))
        np.testing.assert_allclose(unit, [0.0, 0.2, 1.0], rtol=1e-15)

    def test_maps_tensors_in_their_dtype(self):
        unit = _BYTES.to_unit(tf.constant([51.0], tf.float32))
        assert unit.dtype == tf.float32
        np.testing.assert_allclose(_BYTES.from_unit(unit), [51.0], rtol=1e-6)

    @pytest.mark.parametrize(
        ("pixels", "epsilon", "text"),
        [
            # 255 * 0.3 = 76.5; 16 / 400 = 0.04.
            (_UNIT, 0.3, "0.3 (76.5/255)"),
            (_UNIT, 8 / 255, "0.03137 (8/255)"),
            (ValueRange(-100.0, 300.0), 16.0, "16 (0.0400 of the range)"),
        ],
    )
    def test_epsilon_text(self, pixels, epsilon, text):
        assert pixels.epsilon_text(epsilon) == text


class TestCheckedImages:
    @pytest.mark.parametrize(
        "dtype", ["uint8", "int32", "float16", "float32", "float64", ml_dtypes.bfloat16]
    )
    def test_keeps_the_array(self, dtype):
        images = np.array([0, 1, 1, 0]).reshape(1, 2, 2, 1).astype(dtype)
        assert checked_images("PGD", images, _UNIT) is images

    def test_takes_lists_and_tensors(self):
        images = tf.ones((1, 2, 2, 1))
        for same in (images, images.numpy().tolist()):
            np.testing.assert_array_equal(checked_images("PGD", same, _UNIT), images)

    @pytest.mark.parametrize("dtype", ["bool", "complex64", "U3", "object"])
    def test_rejects_what_is_no_number(self, dtype):
        with pytest.raises(ValueError, match="`images` to be an array of numbers"):
            checked_images("PGD", np.zeros((1, 2, 2, 1), dtype), _UNIT)

    @pytest.mark.parametrize(
        "shape", [(2,), (2, 2), (1, 1, 2, 2, 1), (0, 2, 2, 1), (1, 2, 2, 0)]
    )
    def test_rejects_shape(self, shape):
        rule = r"`PGD` expects `images` to be a non-empty array of shape \(batch, rows"
        with pytest.raises(ValueError, match=rule):
            checked_images("PGD", np.zeros(shape), _UNIT)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_rejects_what_is_not_finite_and_names_the_image(self, value, dtype):
        images = np.zeros((4, 2, 2, 1), dtype)
        images[2, 1, 0, 0] = value
        with pytest.raises(ValueError, match="finite; image 2 holds NaN or infinity"):
            checked_images("PGD", images, _UNIT)

    @pytest.mark.parametrize("value", [-0.1, 1.1, 255])
    def test_rejects_values_outside_the_range(self, value):
        images = np.full((1, 2, 2, 1), value)
        rule = r"in the value range \[0, 1\]\. Received: images=\(.*Rescale the images"
        with pytest.raises(ValueError, match=rule):
            checked_images("PGD", images, _UNIT)

    def test_rounding_errors_are_no_reason(self):
        images = np.full((1, 2, 2, 1), 1.0 + 5e-7)
        assert checked_images("PGD", images, _UNIT) is images
        with pytest.raises(ValueError, match="in the value range"):
            checked_images("PGD", images + 1e-6, _UNIT)


class TestCheckValues:
    def test_takes_any_rank(self):
        check_values("PGD", np.zeros((2, 3)), _UNIT)
        check_values("PGD", np.zeros((0, 8, 8, 1)), _UNIT)
        with pytest.raises(ValueError, match=r"value range \[0, 1\]"):
            check_values("PGD", np.full((2, 3), 2.0), _UNIT)

    def test_warns_of_scaled_images_in_the_range_of_bytes(self):
        images = np.linspace(0.0, 1.0, 8).reshape(2, 4)
        with pytest.warns(UserWarning, match=r"`PGD` got images between 0 and 1, all"):
            check_values("PGD", images, _BYTES)

    @pytest.mark.parametrize(
        ("images", "pixels"),
        [
            ([0.0, 2.0], _BYTES),  # A dark image.
            ([0.0, 0.0], _BYTES),  # A black one.
            ([0.0, 1.0], ValueRange(-1.0, 1.0)),
            ([0.0, 1.0], _UNIT),
        ],
    )
    def test_is_silent_where_the_range_may_be_meant(self, images, pixels):
        check_values("PGD", np.array([images]), pixels)


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
        rule = "rows that sum to 1 over the classes; row 1 does not.*One image has one"
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
