import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import _worker_exchange
from keras_advdef.core._worker_exchange import WorkerExchange


@pytest.fixture
def run(monkeypatch):
    """Calls a function of each of two exchanges that stand for two workers."""
    barrier, words = threading.Barrier(2, timeout=60), [None, None]

    def exchange(place):
        made = WorkerExchange(tf.distribute.get_strategy(), 1, is_chief=place == 0)

        def gather(mine):
            words[place] = mine.numpy()
            barrier.wait()
            found = tf.constant(np.concatenate(words))
            barrier.wait()
            return found

        made._gather_words = gather
        return made

    def run(function):
        def call(place):
            try:
                return function(exchange(place), place)
            except Exception as error:
                return type(error), str(error)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(call, range(2)))

    # Several pieces, the last one shorter.
    monkeypatch.setattr(_worker_exchange, "_PIECE", 100)
    return run


def _arrays(place):
    generator = np.random.default_rng(place)
    return {
        "images": generator.uniform(size=(place + 1, 7)).astype("float32"),
        "flags": np.array([True, False]),
        "bytes": np.arange(place, dtype=np.uint8),
    }


def test_all_workers_get_the_arrays_of_all_in_their_order(run):
    for found in run(lambda exchange, place: exchange.gather(lambda: _arrays(place))):
        for place, arrays in enumerate(found):
            expected = _arrays(place)
            assert arrays.keys() == expected.keys()
            for name, each in expected.items():
                np.testing.assert_array_equal(arrays[name], each)
                assert arrays[name].dtype == each.dtype


def test_all_workers_get_what_only_the_chief_has(run):
    def ask(exchange, place):
        return exchange.gather(lambda: _arrays(place), only_chiefs=True)

    for found in run(ask):
        assert [each["images"].shape for each in found] == [(1, 7)]


def test_no_arrays_are_gathered_as_none(run):
    assert run(lambda exchange, _: exchange.gather(lambda: None)) == [[{}, {}]] * 2


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError])
@pytest.mark.parametrize("failing", [(1,), (0, 1)])
def test_an_error_is_raised_on_all_workers(run, kind, failing):
    def ask(exchange, place):
        def compute():
            if place in failing:
                raise kind(f"worker {min(failing)}")
            return _arrays(place)

        return exchange.gather(compute)

    assert run(ask) == [(kind, f"worker {min(failing)}")] * 2


def test_other_errors_keep_their_message(run):
    def ask(exchange, place):
        return exchange.gather(lambda: {"a": np.arange(3)[[9 * place]]})

    (kind, said), (own, same) = run(ask)
    assert (kind, own) == (RuntimeError, IndexError)
    assert said == same


@pytest.mark.parametrize(("shift", "agrees"), [(0, True), (1, False)])
def test_workers_compare_their_arrays(run, shift, agrees):
    def ask(exchange, place):
        return exchange.agrees(np.arange(5), np.array([shift * place]))

    assert run(ask) == [agrees] * 2
