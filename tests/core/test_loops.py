import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import loops
from keras_advdef.core.loops import fixed_loop

_UNROLLED = [0, 1, 10]
_WHILE = [11, 40]


def _body(index, state):
    value, total = state
    value = value * 0.9 + tf.cast(index, tf.float32)
    return value, total + tf.reduce_sum(value)


def _start():
    return tf.constant([1.0, -2.0]), tf.constant(0.0)


def _expected(steps):
    value, total = np.array([1.0, -2.0]), 0.0
    for index in range(steps):
        value = value * 0.9 + index
        total += value.sum()
    return value, total


class TestFixedLoop:
    @pytest.mark.parametrize("steps", _UNROLLED + _WHILE)
    def test_matches_python_in_every_mode(self, steps, in_every_mode):
        def run(value, total):
            return fixed_loop(_body, (value, total), steps)

        expected_value, expected_total = _expected(steps)
        for value, total in in_every_mode(run, *_start()):
            np.testing.assert_allclose(value, expected_value, rtol=1e-5)
            np.testing.assert_allclose(total, expected_total, rtol=1e-5)

    def test_both_kinds_of_loop_are_equal(self, monkeypatch):
        unrolled = fixed_loop(_body, _start(), 10)
        monkeypatch.setattr(loops, "_LONGEST_UNROLLED", 0)
        looped = fixed_loop(_body, _start(), 10)
        np.testing.assert_array_equal(unrolled[0], looped[0])
        np.testing.assert_array_equal(unrolled[1], looped[1])

    @pytest.mark.parametrize(("steps", "kept"), [(10, False), (11, True)])
    def test_a_long_loop_is_a_while_loop_in_the_graph(self, steps, kept):
        traced = tf.function(lambda: fixed_loop(_body, _start(), steps))
        operations = traced.get_concrete_function().graph.get_operations()
        assert any("While" in operation.type for operation in operations) == kept

    @pytest.mark.parametrize("steps", [7, 20])
    @pytest.mark.parametrize("jit", [False, True])
    def test_gradients_pass(self, steps, jit):
        # x * 1.1^steps has the derivative 1.1^steps.
        @tf.function(jit_compile=jit)
        def gradient(value):
            with tf.GradientTape() as tape:
                tape.watch(value)
                (end,) = fixed_loop(lambda _, state: (state[0] * 1.1,), (value,), steps)
            return tape.gradient(end, value)

        np.testing.assert_allclose(gradient(tf.constant(3.0)), 1.1**steps, rtol=1e-5)

    def test_static_shapes_last(self):
        @tf.function(input_signature=[tf.TensorSpec((None, 2))])
        def of_any_batch(values):
            return values + 1.0

        @tf.function
        def run(values):
            (values,) = fixed_loop(
                lambda index, state: (of_any_batch(state[0]),), (values,), 20
            )
            assert values.shape == (1, 2)
            return values

        np.testing.assert_array_equal(run(tf.zeros((1, 2))), [[20.0, 20.0]])
