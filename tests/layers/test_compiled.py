import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from keras_advdef.core.gradients import straight_through
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.layers._compiled import compiled, traced_once


@compiled
def cubed(x, factor=1.0):
    return factor * x**3


@compiled
def cubed_twice(x):
    """A kernel that calls another, and loops."""
    start = (tf.stop_gradient(x),)
    found = fixed_loop(lambda index, state: (cubed(*state),), start, 2, unroll=False)
    return straight_through(x, found[0])


def operations(function, x):
    graph = tf.function(function).get_concrete_function(x).graph
    return graph, [operation.type for operation in graph.get_operations()]


def slope(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


class TestCompiled:
    def test_is_one_xla_function_inside_a_graph_that_is_not_jitted(self):
        graph, kinds = operations(cubed, tf.ones(3))
        assert "Pow" not in kinds
        call = next(op for op in graph.get_operations() if "Call" in op.type)
        inner = graph._functions[call.get_attr("f").name]
        assert inner.cached_definition.attr["_XlaMustCompile"].b

    def test_takes_in_the_kernels_that_it_calls(self):
        graph, _ = operations(cubed_twice, tf.ones(3))
        assert not any("cubed_" in name and "twice" not in name for name in _all(graph))

    def test_same_everywhere(self, in_every_mode):
        for result in in_every_mode(lambda x: cubed(x, 2.0), tf.constant([2.0])):
            assert result.numpy().tolist() == [16.0]

    def test_derivatives_of_any_order(self):
        x = tf.constant(2.0)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = cubed(x)
            slope = inner.gradient(y, x)
        assert float(slope) == 12.0
        assert float(outer.gradient(slope, x)) == 12.0

    def test_each_size_has_its_own_kernel(self):
        for size in (3, 5):
            x = np.full(size, 2.0, "float32")
            np.testing.assert_array_equal(cubed(x), x**3)


def _all(graph):
    """The names of a graph's functions, and of theirs."""
    names = list(graph._functions)
    for function in graph._functions.values():
        names += _all(function.graph)
    return names


def folded(x):
    return x + 0.0 * tf.cast(fold_in(make_key(3), 1)[0], tf.float32)


@pytest.mark.parametrize(
    ("function", "value", "derivative"),
    [(cubed, 8.0, 12.0), (cubed_twice, 512.0, 1.0), (folded, 2.0, 1.0)],
)
def test_outlives_that_a_graph_with_it_is_frozen(function, value, derivative):
    # Freezing, as converters to other formats do, deletes the functions of the graph
    # from TensorFlow's library, and brings none back where it fails at a counter.
    counter = tf.Variable(0.0)
    x = tf.constant(2.0)
    used = tf.function(lambda x: slope(function, x))
    for _ in range(2):
        # Eagerly, in a graph that has run before, and in new graphs.
        assert float(function(x)) == value
        assert float(slope(function, x)) == derivative
        assert float(used(x)) == derivative
        assert float(tf.function(function)(x)) == value
        assert float(tf.function(lambda x: slope(function, x))(x)) == derivative
        counted = tf.function(lambda x: function(x) + counter.assign_add(1.0))
        with pytest.raises(ValueError, match="incompatible with expected resource"):
            convert_variables_to_constants_v2(counted.get_concrete_function(x))


class TestTracedOnce:
    def test_one_trace_for_all_graphs(self):
        traces = []

        @traced_once
        def doubled(x):
            traces.append(x)
            return 2.0 * x

        for _ in range(3):
            assert float(tf.function(doubled)(tf.constant(3.0))) == 6.0
        assert len(traces) == 1

    def test_what_is_not_found_within_it_is_said(self):
        missing = traced_once(tf.io.read_file)
        with pytest.raises(tf.errors.NotFoundError):
            missing(tf.constant("nowhere"))
