import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_advdef.layers import RandomResizePad

CONTRACT = [
    {"output_size": 10, "min_size": 7},
    {"output_size": 9, "method": "nearest", "padding_value": 0.5},
]


def _boxes(outputs: np.ndarray) -> np.ndarray:
    """Returns top, left, height and width of the part without padding."""
    filled = outputs[..., 0] > 0.5
    rows, columns = filled.any(axis=2), filled.any(axis=1)
    return np.stack(
        [rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], axis=1
    )


class TestRandomResizePad:
    def test_every_pattern_is_equally_likely(self):
        # Sides 3, 4, 5 in 5 pixels leave 3, 2, 1 places per axis. The side is uniform,
        # then the place: 9 + 4 + 1 patterns of probability 1/27, 1/12 and 1/3.
        layer = RandomResizePad(output_size=5, min_size=3, seed=0)
        boxes = _boxes(layer(np.ones((20000, 4, 4, 1))).numpy())
        observed, expected = [], []
        for side in (3, 4, 5):
            places = range(5 - side + 1)
            for top, left in itertools.product(places, places):
                hits = (boxes == [top, left, side, side]).all(axis=1)
                observed.append(hits.sum())
                expected.append(20000 / 3 / len(places) ** 2)
        assert sum(observed) == 20000
        assert stats.chisquare(observed, expected).pvalue > 1e-3

    def test_gradient_of_the_sum_is_the_area(self):
        # The weights of each filled row sum to one, so d sum(out) / dx totals side^2.
        layer = RandomResizePad(output_size=12, min_size=7, seed=3)
        x = tf.ones((40, 9, 9, 1))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        totals = tf.reduce_sum(tape.gradient(y, x), axis=(1, 2, 3))
        sides = _boxes(y.numpy())[:, 2]
        assert len(set(sides)) > 2
        np.testing.assert_allclose(totals, sides**2, rtol=1e-5)

    @pytest.mark.parametrize("method", ["bilinear", "nearest"])
    def test_content_matches_tf_image_resize(self, method, images):
        layer = RandomResizePad(output_size=13, min_size=6, method=method, seed=1)
        outputs = layer(images).numpy()
        mask = RandomResizePad(output_size=13, min_size=6, method=method, seed=1)
        boxes = _boxes(mask(np.ones_like(images)).numpy())
        for image, output, (top, left, side, _) in zip(
            images, outputs, boxes, strict=True
        ):
            expected = tf.image.resize(image, (side, side), method=method)
            inside = output[top : top + side, left : left + side]
            np.testing.assert_allclose(inside, expected, atol=2e-6)

    def test_full_size_is_the_identity(self, images):
        result = RandomResizePad(output_size=8, min_size=8)(images)
        np.testing.assert_array_equal(result, images)

    def test_default_smallest_side_is_299_of_331(self):
        boxes = _boxes(RandomResizePad(331, seed=0)(np.ones((300, 9, 9, 1))).numpy())
        assert boxes[:, 2].min() >= 299
        assert boxes[:, 2].min() < 304
        assert boxes[:, 2].max() == 331

    @pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
    def test_padding_value(self, value_range):
        low, high = value_range
        middle = (low + high) / 2
        bright = np.full((50, 5, 5, 3), high, "float32")
        layer = RandomResizePad(9, 5, padding_value=middle, value_range=value_range)
        colours = np.unique(np.asarray(layer(bright)).round(3))
        np.testing.assert_allclose(colours, [middle, high], atol=1e-3)
        low_end = RandomResizePad(9, 5, value_range=value_range)(bright)
        assert np.min(low_end) == low

    def test_inactive_layer_keeps_the_output_size(self, images):
        layer = RandomResizePad(12, active="training")
        result = layer(images, training=False)
        expected = tf.image.resize(images, (12, 12))
        np.testing.assert_allclose(result, expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"output_size": 0}, "output_size"),
            ({"output_size": 8, "min_size": 9}, "min_size"),
            ({"output_size": 8, "min_size": 0}, "min_size"),
            ({"output_size": 8, "method": "bicubic"}, "method"),
            ({"output_size": 8, "padding_value": 1.5}, "padding_value"),
        ],
    )
    def test_rejects(self, arguments, name):
        with pytest.raises(ValueError, match=f"`RandomResizePad` expects `{name}`"):
            RandomResizePad(**arguments)
