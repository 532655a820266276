import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.pixel_mask import checked_mask

_SHAPE = (5, 2, 4, 3)


def spread(mask, shape=_SHAPE):
    return np.broadcast_to(checked_mask("PGD", mask, shape), shape)


@pytest.mark.parametrize(
    "shape",
    [(2, 4), (2, 4, 1), (2, 4, 3), (5, 2, 4), (5, 2, 4, 1), (5, 2, 4, 3), (1, 2, 4, 3)],
)
@pytest.mark.parametrize("dtype", [bool, "uint8", "float64"])
def test_shapes(shape, dtype):
    mask = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    found = spread(mask)
    assert found.dtype == bool
    for image, row, col, channel in np.ndindex(_SHAPE):
        place = [row, col]
        if len(shape) == 4 or shape == (5, 2, 4):
            place.insert(0, image % shape[0])
        if len(place) < len(shape):
            place.append(channel % shape[-1])
        assert found[image, row, col, channel] == bool(mask[tuple(place)])


def test_one_image_comes_before_all_of_them():
    # Two images of 2x2x2: the same mask for both.
    mask = np.arange(8).reshape(2, 2, 2) % 2
    np.testing.assert_array_equal(spread(mask, (2, 2, 2, 2))[1], mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones(4),
        np.ones((4, 2)),
        np.ones((2, 4, 2)),
        np.ones((4, 2, 4)),
        np.ones((6, 2, 4, 3)),
        np.full((2, 4), 0.5),
        np.full((2, 4), np.nan),
        np.full((2, 4), "a"),
    ],
)
def test_others_are_refused_in_one_sentence(mask):
    with pytest.raises(ValueError, match="`PGD` expects `mask`") as error:
        spread(mask)
    assert r"of shape (2, 4), or of that of one image, (2, 4, 3)" in str(error.value)


def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    try:
        shape = (5, 3, 2, 4)
        plane = np.random.default_rng(0).integers(0, 2, (2, 4))
        for mask in (plane, plane[None], np.stack([plane] * 5)):
            found = spread(mask, shape)
            assert np.all(found == plane)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_in_a_graph():
    function = tf.function(lambda mask: checked_mask("PGD", mask, (None, 2, 4, 3)))
    plane = np.random.default_rng(0).integers(0, 2, (2, 4))
    found = function(tf.constant(plane))
    assert found.dtype == tf.bool
    np.testing.assert_array_equal(found[0, :, :, 0], plane)
    with pytest.raises(ValueError, match="`PGD` expects `mask`"):
        function(tf.ones((4, 2)))
