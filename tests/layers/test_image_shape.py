import pytest

from keras_advdef.layers._image_shape import checked_image_shape


class TestCheckedImageShape:
    def test_returns_the_sizes(self):
        assert checked_image_shape("Layer", (None, 4, 5, 2)) == (4, 5, 2)
        shape = (7, 4, 4, 3)
        assert checked_image_shape("L", shape, smallest=4, channels=(1, 3)) == (4, 4, 3)

    @pytest.mark.parametrize(
        ("shape", "rule"),
        [
            ((None, None, 5, 1), "a batch of images of known size"),
            ((None, 5, 5, None), "a batch of images of known size"),
            ((2, 3, 9, 1), "images of at least 4 x 4 pixels"),
            ((2, 9, 3, 1), "images of at least 4 x 4 pixels"),
            ((2, 9, 9, 2), "images of 1 or 3 channels"),
        ],
    )
    def test_rejects(self, shape, rule):
        with pytest.raises(ValueError, match=f"`Layer` expects `images` to be {rule}"):
            checked_image_shape("Layer", shape, smallest=4, channels=(1, 3))
