import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._resampling import METHODS, apply_matrices, resize_matrix

_SIZES = [(8, 8), (5, 8), (8, 5), (33, 17), (17, 33), (7, 1), (1, 4), (28, 31)]


def _matrix(source, target, method, *, side=None, offset=0):
    return resize_matrix(
        tf.constant([float(side or target)]),
        tf.constant([float(offset)]),
        source=source,
        target=target,
        method=method,
    )


def _images(height, width):
    generator = np.random.default_rng(0)
    return generator.uniform(size=(2, height, width, 3)).astype(np.float32)


class TestResizeMatrix:
    def test_bilinear_by_hand(self):
        # Three pixels from two: centers at 1/3, 1 and 5/3 of the old grid, whose own
        # are at 1/2 and 3/2; the middle one lies halfway.
        expected = [[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]
        np.testing.assert_allclose(_matrix(2, 3, "bilinear"), expected, atol=1e-7)

    def test_nearest_by_hand(self):
        # Two pixels from four: centers at 1 and 3, on the border, go to the right.
        expected = [[[0, 1, 0, 0], [0, 0, 0, 1]]]
        np.testing.assert_array_equal(_matrix(4, 2, "nearest"), expected)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("source", [1, 7, 33])
    def test_rows_sum_to_one_inside_and_to_zero_outside(self, method, source):
        sums = tf.reduce_sum(_matrix(source, 12, method, side=5, offset=3), axis=-1)
        expected = [[0] * 3 + [1] * 5 + [0] * 4]
        np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_each_image_has_its_own_size_and_place(self, method):
        sides, offsets = [3.0, 9.0, 6.0], [2.0, 0.0, 6.0]
        together = resize_matrix(
            tf.constant(sides), tf.constant(offsets), source=7, target=12, method=method
        )
        alone = [
            _matrix(7, 12, method, side=side, offset=offset)[0]
            for side, offset in zip(sides, offsets, strict=True)
        ]
        np.testing.assert_array_equal(together, alone)

    @pytest.mark.parametrize("method", METHODS)
    def test_equal_in_every_mode(self, method, in_every_mode):
        def function(sides, offsets):
            return resize_matrix(sides, offsets, source=33, target=40, method=method)

        sides, offsets = tf.range(17.0, 40.0), tf.zeros(23)
        eager, graph, compiled = in_every_mode(function, sides, offsets)
        np.testing.assert_allclose(eager, graph, rtol=0, atol=1e-5)
        np.testing.assert_allclose(eager, compiled, rtol=0, atol=1e-5)


class TestApplyMatrices:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(("source", "target"), _SIZES)
    def test_matches_tensorflow(self, source, target, method):
        images = _images(source, source)
        matrix = tf.repeat(_matrix(source, target, method), 2, axis=0)
        resized = apply_matrices(images, matrix, matrix)
        expected = tf.image.resize(
            images, (target, target), method=method, antialias=False
        )
        np.testing.assert_allclose(resized, expected, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_matches_tensorflow_on_oblong_images_and_padding(self, method):
        images = _images(33, 17)
        rows = tf.repeat(_matrix(33, 30, method, side=21, offset=4), 2, axis=0)
        columns = tf.repeat(_matrix(17, 40, method, side=29, offset=7), 2, axis=0)
        resized = tf.image.resize(images, (21, 29), method=method, antialias=False)
        expected = np.pad(resized, [(0, 0), (4, 5), (7, 4), (0, 0)])
        np.testing.assert_allclose(
            apply_matrices(images, rows, columns), expected, rtol=0, atol=2e-6
        )

    def test_identity_matrices_change_nothing(self):
        images = _images(5, 4)
        rows, columns = tf.eye(5, batch_shape=[2]), tf.eye(4, batch_shape=[2])
        np.testing.assert_array_equal(apply_matrices(images, rows, columns), images)

    def test_gradient_is_the_transpose(self):
        # y = R x C' has the gradient R' u C for the upstream u.
        images, upstream = tf.constant(_images(5, 4)), _images(7, 3)
        rows = tf.repeat(_matrix(5, 7, "bilinear"), 2, axis=0)
        columns = tf.repeat(_matrix(4, 3, "bilinear"), 2, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = apply_matrices(images, rows, columns)
        gradient = tape.gradient(outputs, images, output_gradients=upstream)
        expected = np.einsum(
            "bio,bopc,bpj->bijc", tf.transpose(rows, (0, 2, 1)), upstream, columns
        )
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5)
