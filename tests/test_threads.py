"""Random layers that many threads call at once: no draw comes twice."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers import GenerativeProjection, RandomNoise
from keras_advdef.models import RandomSelfEnsemble
from tests.support.cases import LAYERS, made
from tests.support.threads import called_by_threads

_CALLS = 24
_ALL_CALLS = pytest.param(10_000, marks=pytest.mark.nightly)
# So many that layers that choose one of a few ways for each do not choose the same ways
# for all of them by chance. The fewest are two sides and four places, which two images
# share with 0.31: two calls with 8e-13.
_IMAGES = np.random.default_rng(0).uniform(0.0, 1.0, (24, 8, 8, 1)).astype("float32")
# As short as it gets: the draws are its starts.
_SHORT = {GenerativeProjection: {"steps": 1, "restarts": 1}}


def _ensemble():
    layers = [RandomNoise(0.5), keras.layers.Flatten(), keras.layers.Dense(3)]
    net = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    return RandomSelfEnsemble(net, samples=2)


@pytest.fixture(scope="module")
def model():
    """Every random layer side by side, each with an output of its own."""
    keras.utils.set_random_seed(3)
    cases = [(cls, {**given, **_SHORT.get(cls, {})}) for cls, given in LAYERS]
    layers = [made(*case, _IMAGES) for case in cases]
    drawing = [layer for layer in layers if layer.draws]
    assert len({type(layer) for layer in drawing}) == 10
    inputs = keras.Input((8, 8, 1))
    outputs = [layer(inputs) for layer in (*drawing, _ensemble())]
    return keras.Model(inputs, outputs)


def _digests(outputs):
    """What tells the outputs of one call apart from those of others."""
    found = [np.asarray(each).tobytes() for each in outputs]
    return [hashlib.blake2b(each, digest_size=16).digest() for each in found]


def _assert_all_different(call, count):
    """Asserts that no layer gives the same in two batches of `count` calls."""
    call()
    batches = [batch for made in called_by_threads(call, count) for batch in made]
    assert len(batches) >= count
    for digests in zip(*batches, strict=True):
        assert len(set(digests)) == len(batches)


def test_one_place_draws_for_all_layers():
    found = [RandomLayer]
    for cls in found:
        found += cls.__subclasses__()
    own = [cls for cls in found if cls.__module__.startswith("keras_advdef")]
    assert len(own) > 10
    assert [cls for cls in own if "next_key" in vars(cls)] == [RandomLayer]


class TestNoDrawComesTwice:
    @pytest.mark.parametrize("count", [_CALLS, _ALL_CALLS])
    def test_eager(self, count, model):
        _assert_all_different(lambda: [_digests(model(_IMAGES))], count)

    @pytest.mark.parametrize(
        "jit", [False, pytest.param(True, marks=pytest.mark.nightly)]
    )
    @pytest.mark.parametrize("count", [_CALLS, _ALL_CALLS])
    def test_graph(self, count, jit, model):
        call = tf.function(model, jit_compile=jit)
        _assert_all_different(lambda: [_digests(call(_IMAGES))], count)

    @pytest.mark.parametrize(
        "count", [8, pytest.param(2000, marks=pytest.mark.nightly)]
    )
    def test_predict(self, count, model):
        images = np.tile(_IMAGES, (5, 1, 1, 1))

        def predict():
            outputs = model.predict(images, batch_size=len(_IMAGES), verbose=0)
            batches = [np.split(each, 5) for each in outputs]
            return [_digests(batch) for batch in zip(*batches, strict=True)]

        _assert_all_different(predict, count)

    @pytest.mark.parametrize("count", [_CALLS, _ALL_CALLS])
    def test_served(self, count, model, tmp_path):
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        _assert_all_different(lambda: [_digests(served.serve(_IMAGES))], count)
