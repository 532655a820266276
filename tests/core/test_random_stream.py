import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_stream import (
    add_random_state,
    advance,
    kept_states,
    of_today,
    replica_number,
    stream_key,
)
from tests.support.threads import called_by_threads


@pytest.fixture
def state():
    return add_random_state(keras.layers.Layer(), 5)


class TestAddRandomState:
    def test_variable(self):
        layer = keras.layers.Layer(dtype="mixed_float16")
        state = add_random_state(layer, 5)
        assert state.numpy().tolist() == [0, 0, 5]
        assert state.dtype == "int64"
        assert layer.non_trainable_variables == [state]

    def test_without_seed_it_follows_set_random_seed(self):
        seeds = []
        for start in (1, 1, 2):
            keras.utils.set_random_seed(start)
            state = add_random_state(keras.layers.Layer(), None)
            seeds.append(state.numpy().tolist())
        assert seeds[0] == seeds[1]
        assert seeds[0][0] == seeds[2][0] == 0
        assert len({*seeds[0][1:], *seeds[2][1:]}) == 4

    def test_without_seed_all_bits_of_the_key_are_random(self):
        keras.utils.set_random_seed(1)
        states = [add_random_state(keras.layers.Layer(), None) for _ in range(64)]
        words = np.array([state.numpy()[1:] for state in states])
        ones = np.unpackbits(words.view(np.uint8), axis=1).sum(axis=0)
        # Of 64 throws, with a standard deviation of 4.
        assert ones.shape == (128,)
        assert 64 // 2 - 20 < ones.min() <= ones.max() < 64 // 2 + 20


class TestStreamKey:
    def test_does_not_move(self, state):
        before = stream_key(state)
        advance(state)
        assert before.numpy().tolist() == stream_key(state).numpy().tolist() == [5, 0]


class TestAdvance:
    def test_key_and_counter(self, state):
        keys = [advance(state).numpy().tolist() for _ in range(2)]
        # Outside a strategy the replica is number 0.
        key = stream_key(state)
        assert keys == [fold_in(key, place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [512, 0, 5]

    def test_the_same_in_every_mode(self, state, in_every_mode):
        found = in_every_mode(lambda: advance(state))
        expected = [fold_in([5, 0], place) for place in (0, 256, 512)]
        np.testing.assert_array_equal(found, expected)
        assert state.numpy().tolist() == [768, 0, 5]

    def test_a_stateless_scope_keeps_what_it_draws(self, state):
        with keras.StatelessScope() as scope:
            keys = [advance(state).numpy().tolist() for _ in range(2)]
        assert keys == [fold_in([5, 0], place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [0, 0, 5]
        assert scope.get_current_value(state).numpy().tolist() == [512, 0, 5]

    def test_loops_of_a_graph(self, state):
        @tf.function
        def loop():
            keys = tf.TensorArray(tf.int64, 4)
            for step in tf.range(4):
                keys = keys.write(step, advance(state))
            return keys.stack()

        expected = [fold_in([5, 0], 256 * count) for count in range(4)]
        np.testing.assert_array_equal(loop(), expected)

    @pytest.mark.parametrize("way", ["eager", "graph", "compiled"])
    def test_threads_never_draw_the_same(self, way, state):
        draws = 1 if way == "eager" else 25

        def several():
            return tf.stack([advance(state) for _ in range(draws)])

        jit = way == "compiled"
        call = several if way == "eager" else tf.function(several, jit_compile=jit)
        keys = called_by_threads(call, 10_000 // draws)
        keys = np.concatenate(keys)
        assert keys.shape == (10_000, 2)
        assert len(np.unique(keys, axis=0)) == 10_000
        assert state.numpy().tolist() == [256 * 10_000, 0, 5]


class TestKeptStates:
    def test_keeps_what_is_drawn_itself(self, state):
        with kept_states():
            keys = [advance(state).numpy().tolist() for _ in range(2)]
        assert keys == [fold_in([5, 0], place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [0, 0, 5]

    def test_but_not_in_a_function_that_is_traced_within(self, state):
        @tf.function
        def draw():
            return advance(state)

        @tf.function
        def outer():
            with kept_states():
                return advance(state), draw()

        outer()
        assert state.numpy().tolist() == [256, 0, 5]
        draw()
        assert state.numpy().tolist() == [512, 0, 5]

    def test_variables_have_other_values(self, state):
        with kept_states([(state, tf.constant([512, 0, 5], tf.int64))]):
            key = advance(state)
        np.testing.assert_array_equal(key, fold_in([5, 0], 512))

    def test_a_call_without_state_in_a_function(self, state):
        @tf.function
        def call():
            with keras.StatelessScope() as scope:
                return advance(state), scope.get_current_value(state)

        assert call()[1].numpy().tolist() == [256, 0, 5]
        assert state.numpy().tolist() == [0, 0, 5]


class TestReplicaNumber:
    def test_is_0_without_a_strategy(self):
        assert replica_number() == 0
        assert tf.function(replica_number)() == 0


class TestOfToday:
    def test_states_of_version_0_1(self):
        store = {"0": np.ones((2, 2)), "1": np.array([5, 2]), "2": np.ones(2)}
        found = of_today(store)
        assert list(found) == ["0", "1", "2"]
        assert found["0"] is store["0"]
        assert found["1"].tolist() == [512, 0, 5]
        assert found["2"] is store["2"]
