import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_stream import (
    FreshAtLoad,
    add_random_state,
    fresh_state,
    next_stream_key,
    preserve_variables,
    replica_id,
    replica_variables,
    stream_key,
    upgrade_random_states,
)
from keras_advdef.layers import RandomNoise
from tests.support.fresh_process import run_fresh
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
        next_stream_key(state)
        assert before.numpy().tolist() == stream_key(state).numpy().tolist() == [5, 0]


class TestAdvance:
    def test_key_and_counter(self, state):
        keys = [next_stream_key(state).numpy().tolist() for _ in range(2)]
        # Outside a strategy the replica is number 0.
        key = stream_key(state)
        assert keys == [fold_in(key, place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [512, 0, 5]

    def test_the_same_in_every_mode(self, state, in_every_mode):
        found = in_every_mode(lambda: next_stream_key(state))
        expected = [fold_in([5, 0], place) for place in (0, 256, 512)]
        np.testing.assert_array_equal(found, expected)
        assert state.numpy().tolist() == [768, 0, 5]

    def test_a_stateless_scope_keeps_what_it_draws(self, state):
        with keras.StatelessScope() as scope:
            keys = [next_stream_key(state).numpy().tolist() for _ in range(2)]
        assert keys == [fold_in([5, 0], place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [0, 0, 5]
        assert scope.get_current_value(state).numpy().tolist() == [512, 0, 5]

    def test_loops_of_a_graph(self, state):
        @tf.function
        def loop():
            keys = tf.TensorArray(tf.int64, 4)
            for step in tf.range(4):
                keys = keys.write(step, next_stream_key(state))
            return keys.stack()

        expected = [fold_in([5, 0], 256 * count) for count in range(4)]
        np.testing.assert_array_equal(loop(), expected)

    @pytest.mark.parametrize(
        ("way", "count"),
        [
            ("eager", 2000),
            pytest.param("eager", 10_000, marks=pytest.mark.nightly),
            ("graph", 10_000),
            ("compiled", 10_000),
        ],
    )
    def test_threads_never_draw_the_same(self, way, count, state):
        draws = 1 if way == "eager" else 25

        def several():
            return tf.stack([next_stream_key(state) for _ in range(draws)])

        jit = way == "compiled"
        call = several if way == "eager" else tf.function(several, jit_compile=jit)
        keys = called_by_threads(call, count // draws)
        keys = np.concatenate(keys)
        assert keys.shape == (count, 2)
        assert len(np.unique(keys, axis=0)) == count
        assert state.numpy().tolist() == [256 * count, 0, 5]


class TestKeptStates:
    def test_keeps_what_is_drawn_itself(self, state):
        with preserve_variables():
            keys = [next_stream_key(state).numpy().tolist() for _ in range(2)]
        assert keys == [fold_in([5, 0], place).numpy().tolist() for place in (0, 256)]
        assert state.numpy().tolist() == [0, 0, 5]

    def test_but_not_in_a_function_that_is_traced_within(self, state):
        @tf.function
        def draw():
            return next_stream_key(state)

        @tf.function
        def outer():
            with preserve_variables():
                return next_stream_key(state), draw()

        outer()
        assert state.numpy().tolist() == [256, 0, 5]
        draw()
        assert state.numpy().tolist() == [512, 0, 5]

    def test_variables_have_other_values(self, state):
        with preserve_variables([(state, tf.constant([512, 0, 5], tf.int64))]):
            key = next_stream_key(state)
        np.testing.assert_array_equal(key, fold_in([5, 0], 512))

    def test_a_call_without_state_in_a_function(self, state):
        @tf.function
        def call():
            with keras.StatelessScope() as scope:
                return next_stream_key(state), scope.get_current_value(state)

        assert call()[1].numpy().tolist() == [256, 0, 5]
        assert state.numpy().tolist() == [0, 0, 5]


class TestReplicaNumber:
    def test_is_0_without_a_strategy(self):
        assert replica_id() == 0
        assert tf.function(replica_id)() == 0


class TestOfToday:
    def test_states_of_version_0_1(self):
        store = {"0": np.ones((2, 2)), "1": np.array([5, 2]), "2": np.ones(2)}
        found = upgrade_random_states(store)
        assert list(found) == ["0", "1", "2"]
        assert found["0"] is store["0"]
        assert found["1"].tolist() == [512, 0, 5]
        assert found["2"] is store["2"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh_state") / "served"
    model = keras.Sequential([keras.Input((2,)), RandomNoise(1.0, seed=5)])
    model.export(path, verbose=False)
    return path


def _even_bits(states):
    """Asserts that each bit of the keys is 1 in about half of the states."""
    words = np.array(states)[:, 1:]
    assert len(np.unique(words)) == words.size
    ones = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1).sum(0)
    assert ones.shape == (128,)
    # A standard deviation is 0.5 * sqrt(n); seven of them fail once in 3e9 runs.
    count = len(states)
    assert np.abs(ones - count / 2).max() < 3.5 * np.sqrt(count)


class TestFreshState:
    def test_all_bits_of_the_key_are_random(self):
        states = [fresh_state() for _ in range(256)]
        assert {int(state[0]) for state in states} == {0}
        _even_bits(states)


class TestReplicaVariables:
    def test_is_the_variable_without_a_strategy(self):
        variable = tf.Variable(0)
        (found,) = replica_variables(variable)
        assert found is variable


class TestFreshAtLoad:
    def _initialized(self, count):
        state = tf.Variable([512, 0, 5], dtype=tf.int64)
        initialize = tf.function(FreshAtLoad(state)._initialize)
        states = []
        for _ in range(count):
            initialize()
            states.append(state.numpy())
        return states

    def test_all_bits_of_the_key_are_random(self):
        states = self._initialized(64)
        assert {int(state[0]) for state in states} == {0}
        _even_bits(states)

    def test_takes_the_bits_from_the_system(self, monkeypatch):
        # Everything else that enters is fixed here.
        monkeypatch.setattr(tf.raw_ops, "NonDeterministicInts", tf.zeros)
        _even_bits(self._initialized(64))

    def test_does_without_that_source(self, monkeypatch, tmp_path):
        source = "keras_advdef.core.random_stream._SYSTEM_SOURCE"
        monkeypatch.setattr(source, str(tmp_path / "missing"))
        _even_bits(self._initialized(64))

    @pytest.mark.slow
    def test_under_op_determinism(self, served):
        states, draws = run_fresh(_DETERMINISTIC, served)
        assert np.shape(states) == (2, 3)
        assert len(np.unique(states)) == 5
        # Two loads, three ways to call, two calls, two numbers.
        assert np.shape(draws) == (2, 3, 2, 2)
        assert len(np.unique(draws)) == 24


_DETERMINISTIC = """
import json, sys
import keras, tensorflow as tf

keras.utils.set_random_seed(3)
tf.config.experimental.enable_op_determinism()
loaded = [tf.saved_model.load(sys.argv[1]) for _ in range(2)]
states = [model.variables[0].numpy().tolist() for model in loaded]

def drawn(model):
    ways = model.serve, tf.function(model.serve)
    ways = *ways, tf.function(model.serve, jit_compile=True)
    zeros = tf.zeros((1, 2))
    return [[way(zeros).numpy()[0].tolist() for _ in range(2)] for way in ways]

print(json.dumps([states, [drawn(model) for model in loaded]]))
"""


_FORK = """
import json, os, signal, sys
import numpy as np, tensorflow as tf
import keras, keras_advdef
from keras_advdef.evaluation._request.served_model import ServedModel

zeros = np.zeros((1, 2), np.float32)
noise = keras_advdef.layers.RandomNoise(1.0, seed=5)
model = keras.Sequential([keras.Input((2,)), noise])
model.save(sys.argv[1] + ".keras")
loaded = keras.saving.load_model(sys.argv[1] + ".keras")
served = ServedModel(sys.argv[1])
compiled = [tf.function(each, jit_compile=True) for each in (loaded, served)]

def draws():
    made = [loaded(zeros), *(call(zeros) for call in compiled)]
    return np.ravel(made).tolist()

def of_a_worker():
    reader, writer = os.pipe()
    if not os.fork():
        # The alarm ends hanging processes; they count as empty.
        signal.alarm(60)
        os.write(writer, json.dumps(draws()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        return json.loads(lines.read())

# TensorFlow hangs on graphs that are not compiled, or compiled first in a worker.
draws()
workers = [of_a_worker() for _ in range(2)]
print(json.dumps([*workers, draws(), of_a_worker()]))
"""


class TestOwnStateAfterFork:
    @pytest.mark.slow
    def test_each_process_draws_for_itself(self, served):
        draws = np.array(run_fresh(_FORK, served))
        # Two workers, their parent, a later worker: three ways, two numbers each.
        assert draws.shape == (4, 6)
        assert len(np.unique(draws)) == draws.size
