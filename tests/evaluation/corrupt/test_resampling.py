import numpy as np
import pytest
from PIL import Image

from keras_advdef.evaluation._corrupt.resampling import (
    blurred_along,
    box_matrix,
    zoomed,
)


def ramp(rows, cols):
    """Three planes, each rising along one axis or both."""
    down, right = np.indices((rows, cols)) / 10.0
    return np.stack([down, right, down + right], axis=-1)


class TestZoomed:
    @pytest.mark.parametrize("shape", [(7, 7), (6, 5), (1, 1), (1, 4)])
    def test_a_ramp_becomes_flatter_around_the_middle(self, shape):
        image = ramp(*shape)
        middle = image.mean(axis=(0, 1))
        expected = middle + (image - middle) / 1.6
        np.testing.assert_allclose(zoomed(image, 1.6), expected, atol=1e-12)

    def test_factor_one_changes_nothing(self):
        image = np.random.default_rng(0).random((5, 4, 3))
        np.testing.assert_array_equal(zoomed(image, 1.0), image)


@pytest.mark.parametrize(("size", "other"), [(32, 30), (33, 17), (8, 2), (5, 1)])
def test_boxes_are_pillows(size, other):
    line = np.random.default_rng(size).random(size).astype(np.float32)
    small = Image.fromarray(line[None]).resize((other, 1), Image.Resampling.BOX)
    found = box_matrix(size, other) @ line
    np.testing.assert_allclose(found, np.asarray(small)[0], atol=1e-6)
    large = small.resize((size, 1), Image.Resampling.BOX)
    back = box_matrix(other, size) @ found
    np.testing.assert_allclose(back, np.asarray(large)[0], atol=1e-6)


class TestBlurredAlong:
    def test_weights_are_gaussian_and_to_one_side(self):
        image = np.zeros((1, 9, 1))
        image[0, 4] = 1.0
        weights = np.exp(-0.5 * (np.arange(5) / 1.5) ** 2)
        expected = np.zeros(9)
        # Each pixel averages those to its right.
        expected[:5] = (weights / weights.sum())[::-1]
        found = blurred_along(image, radius=2, sigma=1.5, degrees=0)
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-12)

    @pytest.mark.parametrize(
        ("degrees", "step"), [(0, (0, 1)), (90, (1, 0)), (-90, (-1, 0)), (45, (1, 1))]
    )
    def test_direction(self, degrees, step):
        image = np.zeros((11, 11, 1))
        image[5, 5] = 1.0
        found = blurred_along(image, radius=1, sigma=1e9, degrees=degrees)[..., 0]
        along = [found[5 - step[0] * k, 5 - step[1] * k] for k in range(3)]
        assert along[0] == pytest.approx(1 / 3)
        assert along[1] >= 1 / 3
        assert sum(along) == pytest.approx(1.0)

    def test_a_trace_longer_than_the_image(self):
        image = np.full((2, 3, 1), 0.4)
        found = blurred_along(image, radius=20, sigma=15, degrees=30)
        np.testing.assert_allclose(found, image)
