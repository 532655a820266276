import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.core.gradients import (
    are_defences_bypassed,
    are_gradients_smooth,
    bypass_defences,
    input_gradient,
    jacobian,
    smooth_gradients,
    straight_through,
)
from keras_advdef.layers import JPEGCompression, VariationalLayer
from tests.support.cases import LAYERS, made
from tests.support.threads import in_other_thread

_LENGTH = 16
_awkward = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
    min_size=_LENGTH,
    max_size=_LENGTH,
)
_graph = tf.function(straight_through)
_compiled = tf.function(straight_through, jit_compile=True)

_scopes = pytest.mark.parametrize(
    ("scope", "is_active"),
    [
        pytest.param(bypass_defences, are_defences_bypassed, id="bypass"),
        pytest.param(smooth_gradients, are_gradients_smooth, id="smooth"),
    ],
)


class TestStraightThrough:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        images=_awkward,
        transformed=_awkward,
        mode=st.sampled_from([straight_through, _graph, _compiled]),
    )
    def test_keeps_every_bit(self, images, transformed, mode):
        images = np.array(images, np.float32)
        transformed = np.array(transformed, np.float32)
        value = mode(tf.constant(images), tf.constant(transformed)).numpy()
        np.testing.assert_array_equal(
            value.view(np.uint32), transformed.view(np.uint32)
        )

    @pytest.mark.parametrize("mode", [straight_through, _graph, _compiled])
    def test_keeps_every_bit_of_sums_and_signed_zeros(self, mode):
        # A difference of rounded numbers such as (0.1 + 0.2) - 0.3 is not zero.
        images = np.array([0.3, 0.1, 1e30, 1e-30, 0.0], np.float32)
        other = np.array([0.1 + 0.2, 1e30, 0.1, -0.0, 1 / 3], np.float32)
        value = mode(tf.constant(images), tf.constant(other)).numpy()
        np.testing.assert_array_equal(value.view(np.uint32), other.view(np.uint32))

    @pytest.mark.parametrize("jit", [False, True])
    def test_gradient_is_the_identity(self, jit):
        @tf.function(jit_compile=jit)
        def gradient(images, upstream):
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = straight_through(images, tf.round(images * 7) / 7)
            return tape.gradient(outputs, images, output_gradients=upstream)

        upstream = tf.constant([0.1, -3.0, 1e20])
        images = tf.constant([0.3, 0.5, 0.9])
        np.testing.assert_array_equal(gradient(images, upstream), upstream)

    def test_transformed_gets_no_gradient(self):
        images, transformed = tf.constant([0.4]), tf.constant([0.7])
        with tf.GradientTape() as tape:
            tape.watch([images, transformed])
            outputs = straight_through(images, transformed)
        assert tape.gradient(outputs, [images, transformed])[1] is None

    def test_second_derivative(self):
        # With y = round(x) and dy/dx taken as 1: (y^3)'' = 6 y = 12 at x = 1.7.
        images = tf.constant(1.7)
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                cube = straight_through(images, tf.round(images)) ** 3
            slope = inner.gradient(cube, images)
        assert slope.numpy() == 12.0
        assert outer.gradient(slope, images).numpy() == 12.0


def _smooth(images):
    """A nonlinear loss of each image, and a second value."""
    inner = tf.reduce_sum(tf.tanh(images) * images, axis=[1, 2, 3])
    return tf.exp(-inner), inner


class TestInputGradient:
    def test_by_hand(self):
        # The loss x1^2 + x2^2 of [3, 4] is 25, its gradient [6, 8].
        loss, extra, gradient = input_gradient(
            lambda x: (tf.reduce_sum(x**2, 1), "kept"), tf.constant([[3.0, 4.0]])
        )
        assert loss.numpy().tolist() == [25.0]
        assert gradient.numpy().tolist() == [[6.0, 8.0]]
        assert extra == "kept"

    def test_matches_finite_differences(self, images):
        images = images[:2, :2, :3].astype(np.float64)

        def total(values):
            return np.exp(-(np.tanh(values) * values).sum(axis=(1, 2, 3))).sum()

        expected = np.zeros_like(images)
        for place in np.ndindex(images.shape):
            step = np.zeros_like(images)
            step[place] = 1e-5
            expected[place] = (total(images + step) - total(images - step)) / 2e-5
        _, inner, gradient = input_gradient(_smooth, tf.constant(images, tf.float32))
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(inner, _smooth(images)[1], rtol=1e-6)

    def test_an_image_does_not_see_the_others(self, images):
        _, _, together = input_gradient(_smooth, tf.constant(images))
        _, _, alone = input_gradient(_smooth, tf.constant(images[2:3]))
        np.testing.assert_allclose(together[2:3], alone, rtol=1e-6)

    def test_nonfinite_gradients_become_zero(self):
        # The root has an infinite slope at 0 and none below; at 4 it is 1 / (2 * 2).
        images = tf.constant([[0.0, -1.0, 4.0]])
        _, _, gradient = input_gradient(
            lambda x: (tf.reduce_sum(tf.sqrt(x), 1), None), images
        )
        assert gradient.numpy().tolist() == [[0.0, 0.0, 0.25]]

    def test_scale_is_taken_out_again(self, images):
        images = tf.constant(images)
        plain = input_gradient(_smooth, images)
        scaled = input_gradient(_smooth, images, scale=2.0**10)
        for one, other in zip(plain, scaled, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)

    def test_scale_keeps_float16_from_vanishing(self):
        # The slope 1e-4 * 1e-4 = 1e-8 is below the smallest float16, 6e-8.
        def function(images):
            half = tf.cast(images, tf.float16) * 1e-4
            return tf.cast(tf.reduce_sum(half * 1e-4, 1), tf.float32), None

        images = tf.ones((1, 2))
        assert np.all(input_gradient(function, images)[2] == 0.0)
        scaled = input_gradient(function, images, scale=2.0**10)[2]
        np.testing.assert_allclose(scaled, 1e-8, rtol=0.02)

    def test_sparse_gradients_become_dense(self):
        _, _, gradient = input_gradient(
            lambda x: (tf.reduce_sum(tf.gather(x, [0, 0]), 1), None), tf.ones((2, 3))
        )
        assert gradient.numpy().tolist() == [[2.0] * 3, [0.0] * 3]

    def test_rejects_a_loss_without_gradient(self):
        rule = "`input_gradient` expects `function` to depend on the images.*"
        with pytest.raises(ValueError, match=rule + "`straight_through`"):
            input_gradient(
                lambda x: (tf.cast(tf.argmax(x, 1), tf.float32), None), tf.ones((1, 2))
            )


class TestJacobian:
    def test_of_a_linear_map_is_its_matrix(self):
        matrix = np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], np.float32)
        outputs, slopes = jacobian(lambda x: x @ matrix, tf.constant([[1.0, 1.0]]))
        assert outputs.numpy().tolist() == [[4.0, 6.0, 5.0]]
        assert slopes.numpy().tolist() == [matrix.T.tolist()]

    @pytest.mark.parametrize(
        ("function", "slopes"),
        [
            (lambda x: tf.stack([x[:, 0], tf.ones(2)], 1), [[1.0, 0.0], [0.0, 0.0]]),
            (lambda x: tf.ones((2, 2)), [[0.0, 0.0], [0.0, 0.0]]),
        ],
    )
    def test_outputs_that_do_not_depend_have_zero_slope(self, function, slopes):
        assert jacobian(function, tf.ones((2, 2)))[1].numpy().tolist() == [slopes] * 2

    @pytest.mark.parametrize("jit", [None, False, True])
    def test_matches_batch_jacobian(self, net, images, jit):
        images = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            expected_outputs = net(images)
        expected = tape.batch_jacobian(expected_outputs, images)

        def function(images):
            return jacobian(net, images)

        if jit is not None:
            function = tf.function(function, jit_compile=jit)
        outputs, slopes = function(images)
        np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-6)

    def test_can_be_differentiated_by_the_weights(self):
        # The Jacobian of x W is W; the sum of its squares over 3 images grows by 6 W.
        dense = keras.layers.Dense(2, use_bias=False)
        images = tf.ones((3, 4))
        dense(images)
        with tf.GradientTape() as tape:
            _, slopes = jacobian(dense, images)
            total = tf.reduce_sum(slopes**2)
        gradient = tape.gradient(total, dense.kernel.value)
        np.testing.assert_allclose(gradient, 6 * dense.kernel.numpy(), rtol=1e-6)


@_scopes
def test_scope_ends_with_its_body(scope, is_active):
    with scope():
        with scope():
            assert is_active()
        assert is_active()
    assert not is_active()


@_scopes
def test_scope_ends_with_an_error(scope, is_active):
    with pytest.raises(ZeroDivisionError), scope():
        raise ZeroDivisionError
    assert not is_active()


@_scopes
def test_scope_is_local_to_its_thread(scope, is_active):
    with scope():
        assert not in_other_thread(is_active)
        assert is_active()


def test_compression_has_the_gradient_of_its_soft_self():
    images = tf.constant(np.random.default_rng(0).uniform(size=(2, 16, 16, 3)))
    images = tf.cast(images, tf.float32)

    def found(layer):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
            total = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(total, images)

    with smooth_gradients():
        outputs, gradient = found(JPEGCompression(30))
    expected, soft = found(JPEGCompression(30, gradient="soft"))
    same, straight = found(JPEGCompression(30))
    np.testing.assert_allclose(gradient, soft, atol=1e-6)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(outputs, same, atol=1e-6)
    assert not np.allclose(gradient, straight, atol=1e-2)


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_layers_return_their_inputs(cls, arguments, images):
    layer = made(cls, arguments, images)
    with bypass_defences():
        first, second = layer(images).numpy(), layer(images).numpy()
    np.testing.assert_array_equal(first, second)
    # A convolution may keep the shape of its input, too.
    if first.shape == images.shape and not isinstance(layer, VariationalLayer):
        np.testing.assert_allclose(first, images, atol=1e-6)
    assert not np.array_equal(layer(images), first)
