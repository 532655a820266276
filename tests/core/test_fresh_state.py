import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_stream import (
    FreshAtLoad,
    fresh_state,
    replica_variables,
)
from keras_advdef.layers import RandomNoise


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
        # Whatever else goes in, known or not, stays the same here.
        monkeypatch.setattr(tf.raw_ops, "NonDeterministicInts", tf.zeros)
        _even_bits(self._initialized(64))

    def test_does_without_that_source(self, monkeypatch, tmp_path):
        source = "keras_advdef.core.random_stream._SYSTEM_SOURCE"
        monkeypatch.setattr(source, str(tmp_path / "missing"))
        _even_bits(self._initialized(64))

    @pytest.mark.slow
    def test_under_op_determinism(self, served, in_fresh_process):
        states, draws = json.loads(in_fresh_process(_DETERMINISTIC, served))
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
        # What hangs is ended by the alarm, and read as nothing.
        signal.alarm(60)
        os.write(writer, json.dumps(draws()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        return json.loads(lines.read())

# A graph that is not compiled, or is compiled by a worker first, hangs in TensorFlow.
draws()
workers = [of_a_worker() for _ in range(2)]
print(json.dumps([*workers, draws(), of_a_worker()]))
"""


class TestOwnStateAfterFork:
    @pytest.mark.slow
    def test_each_process_draws_for_itself(self, served, in_fresh_process):
        draws = np.array(json.loads(in_fresh_process(_FORK, served)))
        # Two workers, their parent, a later worker: three ways, two numbers each.
        assert draws.shape == (4, 6)
        assert len(np.unique(draws)) == draws.size
