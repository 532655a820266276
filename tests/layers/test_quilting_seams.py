import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._quilting import minimum_error_cut


def _every_seam(rows, columns):
    for seam in itertools.product(range(columns), repeat=rows):
        if np.abs(np.diff(seam)).max(initial=0) <= 1:
            yield seam


def _cost(errors, seam):
    return sum(row[int(column)] for row, column in zip(errors, seam, strict=True))


class TestMinimumErrorCut:
    @pytest.mark.parametrize(
        ("rows", "columns", "width"),
        [(5, 2, 2), (5, 3, 3), (5, 4, 4), (5, 4, 2), (1, 3, 3), (4, 3, 1)],
    )
    def test_is_the_cheapest_of_all_seams(self, rows, columns, width, in_every_mode):
        generator = np.random.default_rng(rows * columns)
        errors = generator.uniform(0, 9, (3, rows, columns, 40)).astype("float32")
        widths = tf.fill([3], float(width))
        for found in in_every_mode(minimum_error_cut, tf.constant(errors), widths):
            seams = found.numpy()
            assert seams.min() >= 0
            assert seams.max() < width
            assert np.abs(np.diff(seams, axis=1)).max(initial=0) <= 1
            for place in np.ndindex(3, 40):
                each = errors[place[0], :, :, place[1]]
                best = min(_cost(each, seam) for seam in _every_seam(rows, width))
                cost = _cost(each, seams[place[0], :, place[1]])
                assert cost == pytest.approx(best, rel=1e-6)

    def test_seam_need_not_be_the_cheapest_of_each_row(self):
        errors = np.array([[0, 9, 9, 1], [9, 9, 9, 1], [9, 0, 9, 1]], "float32")
        seam = minimum_error_cut(
            tf.constant(errors[None, :, :, None]), tf.fill([1], 4.0)
        )
        assert seam.numpy().ravel().tolist() == [3, 3, 3]

    def test_equal_seams_give_the_leftmost(self):
        seam = minimum_error_cut(tf.zeros((1, 4, 3, 1)), tf.fill([1], 3.0))
        assert seam.numpy().ravel().tolist() == [0, 0, 0, 0]

    def test_no_width_gives_zero_beside_other_widths(self, in_every_mode):
        errors = np.tile(np.array([5.0, 2.0, 1.0, 0.0], "float32"), (3, 4, 1))
        widths = tf.constant([0.0, 2.0, 3.0])
        for seam in in_every_mode(
            minimum_error_cut, tf.constant(errors[..., None]), widths
        ):
            assert seam.numpy()[..., 0].tolist() == [[0] * 4, [1] * 4, [2] * 4]
