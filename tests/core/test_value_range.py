import math

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.value_range import (
    ValueRange,
    check_values,
    checked_epsilon,
    checked_images,
    small_epsilon_error,
    warn_small_epsilon,
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
    def test_parse_rejects_anything_but_an_ordered_pair(self, value):
        rule = r"`PGD` expects `value_range` to be a pair \(low, high\) of finite"
        with pytest.raises(ValueError, match=rule):
            ValueRange.parse("PGD", value)

    @pytest.mark.parametrize("value", [(0, math.inf), (math.nan, 1), (False, 1)])
    def test_parse_rejects_nonfinite_numbers(self, value):
        with pytest.raises(ValueError, match="`value_range` to be a finite number"):
            ValueRange.parse("PGD", value)

    @pytest.mark.parametrize("to", ["to_unit", "from_unit"])
    def test_unit_range_is_the_identity_to_the_bit(self, to):
        # -0.0 and 0.1 would change in an addition or a division.
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
    def test_rejects_anything_but_numbers(self, dtype):
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
    def test_rejects_nonfinite_pixels_and_names_the_image(self, value, dtype):
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
        with pytest.warns(
            UserWarning, match=r"`PGD` got images between 0 and 1: almost black"
        ):
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


def test_checked_epsilon():
    assert checked_epsilon("PGD", 0, _UNIT, norm="linf") == 0.0
    assert checked_epsilon("PGD", 8, _UNIT, norm="l2") == 8.0
    with pytest.raises(ValueError, match=r"at most 1, the.*8/255 = 0\.0314"):
        checked_epsilon("PGD", 8, _UNIT, norm="linf")
    with pytest.raises(ValueError, match="`epsilon`"):
        checked_epsilon("PGD", -1.0, _UNIT, norm="linf")


@pytest.mark.parametrize(
    ("epsilon", "pixels", "is_small"),
    [
        (8 / 255, _BYTES, True),
        (0.25, _BYTES, True),
        (0.26, _BYTES, False),
        (0.0, _BYTES, False),
        (0.0009, _UNIT, True),
        (0.001, _UNIT, False),
    ],
)
def test_small_epsilon(epsilon, pixels, is_small):
    error = small_epsilon_error("fit", epsilon, pixels, otherwise="Or not.")
    assert (error is not None) == is_small
    if is_small:
        assert str(error).startswith("`fit` expects `epsilon` to be at least 0.1 %")
        end = (
            "So small a change is hardly an attack. Or not."
            if pixels is _UNIT
            else f"Did you mean {255 * epsilon:g}, in the units of the pixels? Or not."
        )
        assert str(error).endswith(f" {end}")


def test_warn_small_epsilon():
    warn_small_epsilon("fit", 8.0, _BYTES)
    with pytest.warns(UserWarning, match="Did you mean 8, in the units of the pixels"):
        warn_small_epsilon("fit", 8 / 255, _BYTES)
