import pytest

from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    small_epsilon,
    tell_small_epsilon,
)

_UNIT, _BYTES = ValueRange(), ValueRange(0.0, 255.0)


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
    error = small_epsilon("fit", epsilon, pixels, otherwise="Or not.")
    assert (error is not None) == is_small
    if is_small:
        assert str(error).startswith("`fit` expects `epsilon` to be at least 0.1 %")
        end = (
            "So small a change is hardly any attack. Or not."
            if pixels is _UNIT
            else f"Did you mean {255 * epsilon:g}, in the units of the pixels? Or not."
        )
        assert str(error).endswith(f" {end}")


def test_tell_small_epsilon():
    tell_small_epsilon("fit", 8.0, _BYTES)
    with pytest.warns(UserWarning, match="Did you mean 8, in the units of the pixels"):
        tell_small_epsilon("fit", 8 / 255, _BYTES)
