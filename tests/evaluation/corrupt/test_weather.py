import colorsys

import numpy as np
import pytest

from keras_advdef.evaluation._corrupt.weather import (
    brightness,
    crystals,
    fog,
    frost,
    plasma,
    snow,
)

SNOW = {
    "spread": 0.3,
    "flake": 1.0,
    "threshold": 0.6,
    "radius": 4,
    "sigma": 3,
    "kept": 0.8,
}


def drawn(seed=1):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    return drawn(0).uniform(0.1, 0.9, (9, 7, 3))


class TestSnow:
    def test_without_flakes_it_whitens(self, image):
        found = snow(image, drawn(), mean=-9.0, **SNOW)
        grey = image @ [0.299, 0.587, 0.114]
        white = np.maximum(image, 1.5 * grey[..., None] + 0.5)
        np.testing.assert_allclose(found, 0.8 * image + 0.2 * white)

    def test_flakes_are_white_and_lie_the_same_upside_down(self):
        black = np.zeros((20, 20, 3))
        flakes = snow(black, drawn(), mean=0.1, **SNOW) - 0.2 * 0.5
        assert 0.02 < flakes.mean() < 0.2
        np.testing.assert_allclose(flakes, flakes[::-1, ::-1], atol=1e-12)
        np.testing.assert_allclose(flakes, flakes[..., :1].repeat(3, axis=-1))

    def test_flakes_fall(self):
        found = snow(np.zeros((64, 64, 1)), drawn(), mean=0.1, **SNOW)[..., 0]
        down, right = (np.abs(np.diff(found, axis=axis)).mean() for axis in (0, 1))
        assert down < 0.7 * right


class TestFrost:
    def test_ice_lies_over_the_image(self, image):
        ice = crystals(9, 7, drawn())
        found = frost(image, drawn(), kept=0.7, added=0.4)
        np.testing.assert_allclose(
            found, 0.7 * image + 0.4 * ice * [0.86, 0.95, 1.0], atol=1e-12
        )
        grey = frost(image[..., :1], drawn(), kept=0.7, added=0.4)
        assert grey.shape == (9, 7, 1)

    @pytest.mark.parametrize("shape", [(32, 32), (90, 120), (8, 8), (1, 1)])
    def test_ice_is_bright_and_varies(self, shape):
        ice = np.stack([crystals(*shape, drawn(seed)) for seed in range(10)])
        assert ice.shape == (10, *shape, 1)
        assert 0.0 <= ice.min() < ice.max() <= 1.0
        assert 0.3 < ice.mean() < 0.6
        assert ice.std() > 0.1


class TestFog:
    def test_keeps_the_brightest_value(self, image):
        clouds = plasma(9, 2.0, drawn())[:9, :7, None]
        most = image.max()
        expected = (image + 1.5 * clouds) * most / (most + 1.5)
        found = fog(image, drawn(), added=1.5, decay=2.0)
        np.testing.assert_allclose(found, expected)
        assert found.max() <= most + 1e-12

    def test_black_stays_black(self):
        assert not fog(np.zeros((4, 4, 1)), drawn(), added=1.0, decay=2.0).any()

    @pytest.mark.parametrize(("side", "size"), [(1, 2), (8, 8), (33, 64)])
    def test_clouds_fill_the_range(self, side, size):
        clouds = plasma(side, 2.0, drawn())
        assert clouds.shape == (size, size)
        assert (clouds.min(), clouds.max()) == (0.0, 1.0)

    def test_middles_are_means_without_noise(self):
        # So strong a decay leaves noise only at the largest scale.
        clouds = plasma(8, 1e6, drawn())
        corners = clouds[::4, ::4]
        around = [
            np.roll(corners, shift, (0, 1)) for shift in (0, (0, -1), (-1, 0), -1)
        ]
        around[3] = np.roll(corners, (-1, -1), (0, 1))
        np.testing.assert_allclose(
            clouds[2::4, 2::4], np.mean(around, axis=0), atol=1e-9
        )

    def test_larger_decays_are_smoother(self):
        rough, smooth = (plasma(64, decay, drawn()) for decay in (1.4, 3.0))
        assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


class TestBrightness:
    def test_is_that_of_hsv(self, image):
        found = brightness(image, drawn(), added=0.3)
        for before, after in zip(
            image.reshape(-1, 3), found.reshape(-1, 3), strict=True
        ):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1.0))
            np.testing.assert_allclose(after, expected, atol=1e-12)

    def test_black_becomes_grey(self):
        black = np.zeros((1, 1, 3))
        np.testing.assert_allclose(brightness(black, drawn(), added=0.2), 0.2)

    def test_grey_images_are_shifted(self, image):
        found = brightness(image[..., :1], drawn(), added=0.3)
        np.testing.assert_allclose(found, np.minimum(image[..., :1] + 0.3, 1.0))
