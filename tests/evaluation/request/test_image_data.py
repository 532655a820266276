import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._request.image_data import (
    check_image_shape,
    checked_data,
)

IMAGES = np.full((3, 4, 5), 0.5)


def checked(images=IMAGES, labels=(0, 1, 0), **more):
    return checked_data("f", images, labels, value_range=ValueRange(), **more)


class TestCheckedData:
    def test_arrays(self):
        found = checked()
        assert found.images.shape == (3, 4, 5, 1)
        assert found.labels.tolist() == [0, 1, 0]
        assert found.is_whole

    def test_data_sets_are_read_as_far_as_needed(self):
        pairs = (IMAGES[..., None], np.array([0, 1, 0]))
        source = tf.data.Dataset.from_tensor_slices(pairs).batch(2)
        found = checked(source, None, most=2)
        assert found.labels.tolist() == [0, 1]
        assert not found.is_whole

    def test_refusals(self):
        with pytest.raises(ValueError, match="`f` expects `labels` to be given"):
            checked(labels=None)
        with pytest.raises(ValueError, match="`labels` to be as many as the images, 3"):
            checked(labels=[0, 1])
        with pytest.raises(ValueError, match="`images` to be in the value range"):
            checked(images=255 * IMAGES)


class TestCheckImageShape:
    @pytest.mark.parametrize("expected", [(), (4, 5, 1), (None, None, 1)])
    def test_shapes_that_fit(self, expected):
        images = IMAGES[..., None]
        check_image_shape("f", "model", images=images, expected=expected)

    @pytest.mark.parametrize("expected", [(4, 5), (4, 4, 1), (None, None, 3)])
    def test_others_are_refused(self, expected):
        with pytest.raises(
            ValueError, match="`images` to be of the shape that the net"
        ):
            check_image_shape("f", "net", images=IMAGES[..., None], expected=expected)
