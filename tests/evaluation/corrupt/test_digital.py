import io

import numpy as np
import pytest
from PIL import Image

from keras_advdef.evaluation._corrupt.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)


def drawn(seed=1):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    whole = drawn(0).integers(0, 256, (33, 17, 3))
    return (whole / 255.0).astype("float32")


def test_contrast_moves_towards_the_mean_of_each_channel(image):
    found = contrast(image, drawn(), kept=0.3)
    mean = image.mean(axis=(0, 1))
    np.testing.assert_allclose(found, mean + 0.3 * (image - mean), atol=1e-6)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), mean, atol=1e-6)


class TestElasticTransform:
    def test_without_strength_nothing_moves(self, image):
        found = elastic_transform(image, drawn(), reach=0, smoothness=0, shift=0)
        np.testing.assert_allclose(found, image, atol=1e-6)

    def test_three_points_move_where_they_were_drawn_to(self):
        # Each channel is a coordinate: it tells where a pixel came from.
        places = np.moveaxis(np.indices((40, 40)), 0, -1).astype("float64")
        found = elastic_transform(places, drawn(), reach=0, smoothness=0, shift=1.5)
        points = 20 + 13 * np.array([[1, 1], [1, -1], [-1, -1]])
        moved = points + drawn().uniform(-1.5, 1.5, (3, 2))
        whole = np.rint(moved).astype(int)
        back = found[whole[:, 0], whole[:, 1]]
        np.testing.assert_allclose(back - points, whole - moved, atol=0.15)

    def test_a_smooth_field_moves_neighbours_alike(self):
        places = np.moveaxis(np.indices((40, 40)), 0, -1).astype("float64")
        middle = (slice(8, -8), slice(8, -8))
        rough, smooth = (
            elastic_transform(places, drawn(), reach=reach, smoothness=each, shift=0)
            - places
            for reach, each in ((2.0, 0.5), (20.0, 5.0))
        )
        for moved in (rough, smooth):
            assert 0.1 < np.abs(moved[middle]).mean() < 3.0
        ratios = [
            np.abs(np.diff(moved[middle], axis=0)).mean() / np.abs(moved[middle]).mean()
            for moved in (rough, smooth)
        ]
        assert ratios[1] < 0.5 * ratios[0]

    @pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3)])
    def test_tiny_images(self, shape):
        tiny = drawn().random(shape)
        found = elastic_transform(tiny, drawn(), reach=0.1, smoothness=0.1, shift=0.1)
        assert found.shape == shape
        assert np.isfinite(found).all()


@pytest.mark.parametrize("share", [0.95, 0.65, 0.25, 0.01])
def test_pixelate_is_pillows(share, image):
    found = pixelate(image, drawn(), share=share)
    rows, cols = (max(1, int(share * size)) for size in (33, 17))
    for channel in range(3):
        plane = Image.fromarray(image[..., channel])
        small = plane.resize((cols, rows), Image.Resampling.BOX)
        large = small.resize((17, 33), Image.Resampling.BOX)
        np.testing.assert_allclose(found[..., channel], np.asarray(large), atol=1e-6)


class TestJPEGCompression:
    @pytest.mark.parametrize("quality", [80, 25, 7])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_pillows(self, quality, channels, image):
        image = image[..., :channels]
        whole = np.rint(255 * image).astype(np.uint8)
        code = io.BytesIO()
        plain = whole if channels == 3 else whole[..., 0]
        Image.fromarray(plain).save(code, "JPEG", quality=quality)
        expected = np.asarray(Image.open(code)).reshape(image.shape)
        found = jpeg_compression(image, drawn(), quality=quality)
        np.testing.assert_allclose(255 * found, expected, atol=1e-4)

    def test_other_channels_one_by_one(self, image):
        found = jpeg_compression(image[..., :2], drawn(), quality=50)
        for channel in range(2):
            alone = image[..., channel : channel + 1]
            expected = jpeg_compression(alone, drawn(), quality=50)
            np.testing.assert_array_equal(found[..., channel], expected[..., 0])
