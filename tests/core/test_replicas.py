import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import replicas as replicas_module
from keras_advdef.core.replicas import Replicas, outside_of_scope, share_place


def test_one_replica_works_on_an_item_when_its_turn_comes():
    seen = []

    def square(number):
        seen.append(number)
        return {"square": np.array(number * number)}

    found = Replicas(None).map(square, [2, 3])
    assert next(found)["square"] == 4
    assert seen == [2]
    assert [int(each["square"]) for each in found] == [9]


def test_without_a_scope_there_is_one_replica():
    replicas = Replicas.of_scope("PGD")
    assert replicas.count == 1
    assert replicas.is_chief
    assert not replicas.has_workers
    assert share_place() is None


def test_out_of_a_scope_keras_is_set_as_in_it():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            replicas = Replicas.of_scope("PGD")
            inside = (tf.distribute.has_strategy(), threading.current_thread())
            outside = outside_of_scope(
                replicas,
                lambda: (
                    tf.distribute.has_strategy(),
                    keras.config.dtype_policy().name,
                    Replicas.of_scope("PGD") is replicas,
                ),
            )
    finally:
        keras.config.set_dtype_policy("float32")
    assert inside == (True, threading.current_thread())
    assert outside == (False, "mixed_bfloat16", True)


def test_an_interrupted_caller_ends_the_call_out_of_a_scope(monkeypatch):
    done, begun = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def submit(self, *args):
            future = super().submit(*args)
            begun.set()
            return future

    def interrupt(_):
        assert begun.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert replicas_module._here.stopped.wait(60)
        return {}

    def work():
        for each in Replicas.of_scope("PGD").map(interrupt, range(3)):
            done.append(each)

    monkeypatch.setattr(replicas_module, "ThreadPoolExecutor", Pool)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        replicas = Replicas.of_scope("PGD")
        with pytest.raises(KeyboardInterrupt):
            outside_of_scope(replicas, work)
    assert done == [{}]
