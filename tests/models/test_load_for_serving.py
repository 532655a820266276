import json

import keras
import numpy as np
import pytest

from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers import RandomNoise, StochasticActivationPruning
from keras_advdef.models import RandomSelfEnsemble, load_for_serving
from tests.support.fresh_process import run_fresh

_IMAGES = np.full((2, 4, 4, 1), 0.5, "float32")


def _net():
    """Random layers in a model within a model, with and without a seed."""
    inner = [RandomNoise(1.0, seed=5), keras.layers.ReLU()]
    inner = keras.Sequential([keras.Input((4, 4, 1)), *inner])
    pruning = StochasticActivationPruning(fraction=2.0)
    layers = [inner, pruning, keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = RandomSelfEnsemble(_net(), samples=2)
    model(_IMAGES)
    path = tmp_path_factory.mktemp("serving") / "model.keras"
    model.save(path)
    return path


def _states(model):
    layers = [each for each in model._flatten_layers() if isinstance(each, RandomLayer)]
    return np.array([layer.random_state.numpy() for layer in layers])


def _draws(model):
    return [model(_IMAGES).numpy().tolist() for _ in range(2)]


def test_every_random_layer_starts_anew(path):
    known = _states(keras.models.load_model(path))
    loads = [_states(load_for_serving(path)) for _ in range(2)]
    assert known.shape == (2, 3)
    for states in loads:
        assert states[:, 0].tolist() == [0, 0]
    # The file's keys are those of a seed and of `set_random_seed`; the second word of
    # a seed is 0. Of the others no word comes twice.
    words = np.concatenate([known[:, 1:], *(states[:, 1:] for states in loads)])
    assert len(np.unique(words)) == words.size == 12


def test_all_but_the_streams_is_as_loaded(path):
    resumed, served = keras.models.load_model(path), load_for_serving(path)
    for one, other in zip(resumed.weights, served.weights, strict=True):
        if "random_state" not in one.path:
            np.testing.assert_array_equal(one, other)


_BOTH = """
import json, sys
import keras, numpy as np
import keras_advdef

images = np.full((2, 4, 4, 1), 0.5, "float32")
keras.utils.set_random_seed(0)
load = keras.models.load_model, keras_advdef.models.load_for_serving
models = [each(sys.argv[1]) for each in load]
draws = [[model(images).numpy().tolist() for _ in range(2)] for model in models]
print(json.dumps(draws))
"""


@pytest.mark.nightly
def test_two_processes_draw_alike_only_where_they_resume(path):
    resumed, served = run_fresh(_BOTH, path)
    # The seed that both processes set governs nothing of it.
    keras.utils.set_random_seed(0)
    here = json.loads(json.dumps(_draws(keras.models.load_model(path))))
    np.testing.assert_allclose(here, resumed, rtol=0, atol=1e-6)
    draws = np.array([resumed, served, _draws(load_for_serving(path))])
    assert draws.shape == (3, 2, 2, 3)
    assert len(np.unique(draws.round(6))) > draws.size - 3


def _trained(model, epochs):
    model.fit(_IMAGES, np.array([0, 1]), epochs=epochs, shuffle=False, verbose=0)
    return model


def test_training_is_resumed_by_keras_own_loader(tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = _net()
    model.compile(keras.optimizers.SGD(0.1), loss)
    _trained(model, 2).save(tmp_path / "half.keras")
    whole = _trained(model, 2).get_weights()
    load = keras.models.load_model, load_for_serving
    resumed, served = [
        _trained(each(tmp_path / "half.keras"), 2).get_weights() for each in load
    ]
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    # The test could tell: with other noise the weights end elsewhere.
    assert np.abs(whole[-2] - served[-2]).max() > 1e-4


def test_passes_on_what_keras_takes(tmp_path):
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    model = keras.Sequential([keras.Input((2,)), Own(), RandomNoise(0.1, seed=5)])
    model.compile("sgd", "mse")
    model.save(tmp_path / "own.keras")
    objects = {"Own": Own}
    loaded = load_for_serving(
        tmp_path / "own.keras", custom_objects=objects, compile=False
    )
    assert isinstance(loaded.layers[0], Own)
    assert not loaded.compiled
    with pytest.raises(TypeError, match="Own"):
        load_for_serving(tmp_path / "own.keras")


def test_a_model_without_random_layers(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    model.save(tmp_path / "m.keras")
    loaded = load_for_serving(tmp_path / "m.keras")
    assert float(loaded(np.full((1, 2), 3.0))[0, 0]) == 3.0
