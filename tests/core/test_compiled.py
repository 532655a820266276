import numpy as np
import tensorflow as tf

from keras_advdef.core.compiled import compiled


@compiled
def cubed(x, factor=1.0):
    return factor * x**3


class TestCompiled:
    def test_is_one_xla_function_inside_a_graph_that_is_not_jitted(self):
        graph = tf.function(cubed).get_concrete_function(tf.ones(3)).graph
        kinds = [operation.type for operation in graph.get_operations()]
        assert "Pow" not in kinds
        call = next(op for op in graph.get_operations() if "Call" in op.type)
        inner = graph._functions[call.get_attr("f").name]
        assert inner.cached_definition.attr["_XlaMustCompile"].b

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
