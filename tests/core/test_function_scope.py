import keras
import pytest
import tensorflow as tf

from keras_advdef.core._function_scope import (
    FunctionScope,
    current_function,
    is_symbolic_call,
    outer_functions,
)
from tests.support.threads import in_other_thread


class TestCurrentFunction:
    def test_is_that_of_loops_and_branches(self):
        seen = []

        @tf.function
        def outer(number):
            seen.append(current_function())

            def within():
                seen.append(current_function())
                return number

            inner = tf.map_fn(lambda _: within(), tf.range(3))
            return tf.cond(number > 0, within, lambda: number) + inner[0]

        assert current_function() is None
        outer(tf.constant(1))
        assert len(seen) == 3
        assert len(set(map(id, seen))) == 1

    def test_is_that_of_the_innermost(self):
        seen = []
        inner = tf.function(lambda: seen.append(current_function()))

        @tf.function
        def outer():
            inner()
            seen.append(current_function())

        outer()
        assert seen[0].outer_graph is seen[1]


class TestFunctionScope:
    def test_one_within_another(self):
        scope = FunctionScope()
        with scope.holding(1):
            with scope.holding(2):
                assert scope.value() == 2
            assert scope.value() == 1
        assert scope.value() is None

    def test_an_error_ends_it(self):
        scope = FunctionScope()
        with pytest.raises(KeyError), scope.holding(1):
            raise KeyError
        assert scope.value() is None

    def test_is_local_to_its_thread(self):
        scope = FunctionScope()
        with scope.holding(1):
            assert in_other_thread(scope.value) is None

    def test_ends_at_a_function_that_is_traced_within(self):
        scope, seen = FunctionScope(), []
        inner = tf.function(lambda: seen.append(scope.value()))

        @tf.function
        def outer():
            with scope.holding(1):
                inner()
                seen.append(scope.value())
                tf.map_fn(lambda each: seen.append(scope.value()) or each, tf.range(2))

        outer()
        assert seen == [None, 1, 1]

    def test_is_left_in_a_function_that_is_traced_within(self):
        scope, seen = FunctionScope(), []
        inner = tf.function(lambda: seen.append(scope.is_left()))
        assert not scope.is_left()
        with scope.holding(1):
            assert not scope.is_left()
            inner()
        assert seen == [True]


def test_outer_functions():
    seen = []
    inner = tf.function(lambda: seen.extend(outer_functions(current_function())))

    @tf.function
    def outer():
        inner()
        seen.append(current_function())

    outer()
    assert seen[0] is seen[-1]


def test_is_symbolic_call():
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, inputs):
            function = tf.compat.v1.get_default_graph()
            seen.append(is_symbolic_call(function))
            return inputs

    layer = Watch()
    layer(keras.Input((2,)))
    tf.function(layer)(tf.ones((1, 2)))
    layer(tf.ones((1, 2)))
    assert seen == [True, False, False]
    assert not is_symbolic_call(None)
