import numpy as np
import pytest
from scipy import ndimage

from keras_advdef.evaluation._corrupt.blur import (
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from keras_advdef.evaluation._corrupt.resampling import zoomed


def drawn(seed=1):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    return drawn(0).random((21, 18, 3)).astype("float32")


class TestDefocusBlur:
    def test_a_point_becomes_a_disk(self):
        image = np.zeros((15, 15, 1))
        image[7, 7] = 1.0
        found = defocus_blur(image, drawn(), radius=3, softness=0.1)[..., 0]
        away = np.hypot(*(np.indices((15, 15)) - 7))
        inside = found[away <= 2.5]
        np.testing.assert_allclose(inside, inside[0], rtol=1e-4)
        # The area of the disk, but for its jagged edge.
        assert inside[0] == pytest.approx(1 / (np.pi * 9), rel=0.05)
        np.testing.assert_allclose(found[away > 3.6], 0.0, atol=1e-8)
        assert found.sum() == pytest.approx(1.0)

    def test_a_small_disk_is_its_soft_edge(self, image):
        line = np.exp(-0.5 * (np.arange(-1, 2) / 0.4) ** 2)
        line /= line.sum()
        expected = image
        for axis in (0, 1):
            expected = ndimage.correlate1d(expected, line, axis=axis, mode="mirror")
        found = defocus_blur(image, drawn(), radius=0.3, softness=0.4)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_a_disk_larger_than_the_image(self):
        image = np.full((3, 1, 2), 0.3, "float32")
        found = defocus_blur(image, drawn(), radius=9, softness=0.5)
        np.testing.assert_allclose(found, image, rtol=1e-5)


class TestGlassBlur:
    @pytest.mark.parametrize(
        ("reach", "steps"), [(0.3, {0}), (1, {-1, 0}), (2, {-2, -1, 0, 1})]
    )
    def test_each_pixel_shows_a_neighbour(self, reach, steps):
        places = np.moveaxis(np.indices((30, 40)), 0, -1).astype("float64")
        found = glass_blur(places, drawn(), sigma=0.0, reach=reach, rounds=1)
        moved = (found - places)[4:-4, 4:-4]
        for axis in (0, 1):
            values, counts = np.unique(moved[..., axis], return_counts=True)
            assert set(values.astype(int)) == steps
            np.testing.assert_allclose(counts / counts.sum(), 1 / len(steps), atol=0.06)

    def test_rounds_go_further(self):
        places = np.moveaxis(np.indices((30, 40)), 0, -1).astype("float64")
        found = glass_blur(places, drawn(), sigma=0.0, reach=1, rounds=3)
        assert set(np.unique(found - places).astype(int)) == {-3, -2, -1, 0}

    def test_blurs_before_and_after(self, image):
        found = glass_blur(image, drawn(), sigma=0.8, reach=0.1, rounds=1)
        expected = ndimage.gaussian_filter(image, (0.8, 0.8, 0), mode="nearest")
        expected = ndimage.gaussian_filter(expected, (0.8, 0.8, 0), mode="nearest")
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_motion_is_nearly_along_the_rows(image):
    image = np.zeros((41, 41, 1))
    image[20, 20] = 1.0
    for seed in range(20):
        found = motion_blur(image, drawn(seed), radius=6, sigma=100.0)
        rows, cols, _ = np.nonzero(found)
        assert 9 <= len(rows) <= 13
        assert np.ptp(cols) >= np.ptp(rows)
        assert np.ptp(cols) >= 8


def test_zoom_averages_magnifications(image):
    found = zoom_blur(image, drawn(), furthest=0.04, step=0.02)
    parts = [image, image, zoomed(image, 1.02), zoomed(image, 1.04)]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
