import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_advdef.layers import NonLocalMeans

CONTRACT = [{"strength": 0.1}]


def _by_numpy(images, search, patch, strength):
    """Returns the definition, pixel by pixel."""
    reach, border = search // 2, patch // 2
    margin = reach + border
    pad = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = np.pad(images.astype("float64"), pad, mode="reflect")
    result = np.zeros(images.shape)
    for b, i, j in np.ndindex(images.shape[:3]):
        total, weights = 0.0, 0.0
        here = padded[b, i + reach : i + reach + patch, j + reach : j + reach + patch]
        for u, v in np.ndindex(search, search):
            there = padded[b, i + u : i + u + patch, j + v : j + v + patch]
            weight = np.exp(-((here - there) ** 2).mean() / strength**2)
            total = total + weight * there[border, border]
            weights += weight
        result[b, i, j] = total / weights
    return result


class TestNonLocalMeans:
    @pytest.mark.parametrize(
        ("shape", "search", "patch"),
        [((2, 9, 12, 1), 5, 3), ((1, 8, 7, 3), 3, 5), ((1, 8, 8, 2), 7, 1)],
    )
    def test_equal_to_the_definition(self, shape, search, patch):
        pixels = np.random.default_rng(0).uniform(0, 1, shape).astype("float32")
        layer = NonLocalMeans(search=search, patch=patch, strength=0.3)
        expected = _by_numpy(pixels, search, patch, 0.3)
        np.testing.assert_allclose(layer(pixels), expected, atol=2e-6)

    def test_strength_leads_from_the_image_to_the_mean(self, images):
        weak = NonLocalMeans(search=5, strength=1e-3)(images)
        np.testing.assert_allclose(weak, images, atol=1e-6)
        strong = NonLocalMeans(search=3, patch=1, strength=1e3)(images)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        windows = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
        np.testing.assert_allclose(strong, np.mean(windows, axis=0), atol=1e-5)

    def test_constant_images_stay_and_images_do_not_touch_each_other(self, images):
        flat = np.full((1, 9, 9, 3), 0.3, "float32")
        np.testing.assert_allclose(NonLocalMeans()(flat), flat, atol=1e-6)
        layer = NonLocalMeans(search=3, strength=0.2)
        order = [5, 3, 1, 0, 2, 4]
        averaged = layer(images).numpy()
        np.testing.assert_allclose(layer(images[order]), averaged[order], atol=1e-6)

    def test_strength_is_that_of_unit_pixels(self, images):
        wide = NonLocalMeans(search=3, strength=0.1, value_range=(0, 255))
        unit = NonLocalMeans(search=3, strength=0.1)
        np.testing.assert_allclose(wide(255 * images) / 255, unit(images), atol=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"search": 4}, "search"),
            ({"search": 1}, "search"),
            ({"patch": 2}, "patch"),
            ({"strength": 0}, "strength"),
        ],
    )
    def test_rejects_arguments(self, arguments, name):
        with pytest.raises(ValueError, match=f"`NonLocalMeans` expects `{name}`"):
            NonLocalMeans(**arguments)

    def test_rejects_small_images(self):
        with pytest.raises(ValueError, match="images of at least 8 x 8 pixels"):
            NonLocalMeans()(np.zeros((1, 7, 9, 1), "float32"))


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(
    pixels=hypothesis.extra.numpy.arrays(
        "float32",
        st.sampled_from([(1, 7, 7, 1), (2, 9, 8, 3), (3, 33, 17, 1)]),
        elements=st.floats(0, 1, width=32),
    ),
    strength=st.sampled_from([1e-3, 0.1, 10.0]),
)
def test_keeps_shape_dtype_and_the_range_of_the_image(pixels, strength):
    averaged = NonLocalMeans(search=5, strength=strength)(pixels).numpy()
    assert averaged.shape == pixels.shape
    assert averaged.dtype == pixels.dtype
    # A mean stays within the range of its inputs; the comparison also refuses NaN.
    low = pixels.min(axis=(1, 2, 3), keepdims=True) - 1e-6
    high = pixels.max(axis=(1, 2, 3), keepdims=True) + 1e-6
    assert ((averaged >= low) & (averaged <= high)).all()
