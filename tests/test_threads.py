"""Random layers that many threads call at once: no draw comes twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers import RandomNoise
from keras_advdef.models import RandomSelfEnsemble
from tests.support.cases import LAYERS, made
from tests.support.threads import called_by_threads

_CALLS = 40
# Several images, so that layers that choose one of a few ways for each do not choose
# the same ways for all of them by chance.
_IMAGES = np.random.default_rng(0).uniform(0.0, 1.0, (8, 8, 8, 1)).astype("float32")


def _ensemble():
    layers = [RandomNoise(0.5), keras.layers.Flatten(), keras.layers.Dense(3)]
    net = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    return RandomSelfEnsemble(net, samples=2)


@pytest.fixture(scope="module")
def model():
    """Every random layer side by side, each with an output of its own."""
    keras.utils.set_random_seed(3)
    layers = [made(*case, _IMAGES) for case in LAYERS]
    drawing = [layer for layer in layers if layer.draws]
    assert len({type(layer) for layer in drawing}) == 10
    inputs = keras.Input((8, 8, 1))
    outputs = [layer(inputs) for layer in (*drawing, _ensemble())]
    return keras.Model(inputs, outputs)


def _assert_all_different(calls):
    """Asserts that no layer gave the same in two calls."""
    for outputs in zip(*calls, strict=True):
        assert len({np.asarray(each).tobytes() for each in outputs}) == len(calls)


def test_one_place_draws_for_all_layers():
    found = [RandomLayer]
    for cls in found:
        found += cls.__subclasses__()
    own = [cls for cls in found if cls.__module__.startswith("keras_advdef")]
    assert len(own) > 10
    assert [cls for cls in own if "next_key" in vars(cls)] == [RandomLayer]


class TestNoDrawComesTwice:
    def test_eager(self, model):
        model(_IMAGES)
        _assert_all_different(called_by_threads(lambda: model(_IMAGES), _CALLS))

    def test_graph(self, model):
        call = tf.function(model)
        call(_IMAGES)
        _assert_all_different(called_by_threads(lambda: call(_IMAGES), _CALLS))

    def test_predict(self, model):
        model.predict(_IMAGES, verbose=0)
        predict = lambda: model.predict(_IMAGES, verbose=0)  # noqa: E731
        _assert_all_different(called_by_threads(predict, 16))

    def test_served(self, model, tmp_path):
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        served.serve(_IMAGES)
        _assert_all_different(called_by_threads(lambda: served.serve(_IMAGES), _CALLS))
