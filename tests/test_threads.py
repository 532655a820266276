"""Random layers called by many threads at once never repeat a draw."""

import hashlib
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef
from keras_advdef.attacks import FGSM, PGD
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers import (
    GenerativeProjection,
    RandomNoise,
    StochasticActivationPruning,
)
from keras_advdef.models import RandomSelfEnsemble
from tests.support.cases import LAYERS, made
from tests.support.nets import small_net
from tests.support.threads import called_by_threads, run_together

_CALLS = 16
# In graphs; an eager call of all layers takes 0.2 s, and a prediction nearly as long.
_ALL_CALLS = 10_000
_SLOW_CALLS = 800
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


def _side_by_side(layers):
    """A model of layers that each have an output of their own."""
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, [layer(inputs) for layer in (*layers, _ensemble())])


def _random_layers():
    """Every random layer, with all arguments of the tests' cases."""
    keras.utils.set_random_seed(3)
    cases = [(cls, {**given, **_SHORT.get(cls, {})}) for cls, given in LAYERS]
    layers = [made(*case, _IMAGES) for case in cases]
    drawing = [layer for layer in layers if layer.draws]
    assert len({type(layer) for layer in drawing}) == 10
    return drawing


@pytest.fixture(scope="module")
def every_layer():
    """Every random layer side by side."""
    return _side_by_side(_random_layers())


@pytest.fixture(scope="module")
def every_class():
    """A layer of each random class side by side."""
    return _side_by_side({type(each): each for each in _random_layers()}.values())


@pytest.fixture(scope="module")
def two_layers():
    """A shift of all pixels and a choice among them; these take little time."""
    pruning = StochasticActivationPruning(fraction=2.0)
    return _side_by_side([RandomNoise(0.5), pruning])


@pytest.fixture
def model(request):
    """One of these models."""
    return request.getfixturevalue(request.param)


def _cases(short, count, long):
    """A model called a few times; nightly, every layer called often."""
    every = pytest.param("every_layer", long, marks=pytest.mark.nightly)
    cases = [(short, count), every]
    return pytest.mark.parametrize(("model", "count"), cases, indirect=["model"])


def _digests(outputs):
    """Digests of the outputs of one call."""
    found = [np.asarray(each).tobytes() for each in outputs]
    return [hashlib.blake2b(each, digest_size=16).digest() for each in found]


def _assert_all_different(call, count):
    """Asserts that no layer repeats its output in two batches of `count` calls."""
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
    @_cases("every_class", _CALLS, _SLOW_CALLS)
    def test_eager(self, model, count):
        _assert_all_different(lambda: [_digests(model(_IMAGES))], count)

    @pytest.mark.parametrize(
        ("model", "jit", "count"),
        [
            ("every_class", False, _CALLS),
            pytest.param("every_layer", False, _ALL_CALLS, marks=pytest.mark.nightly),
            pytest.param("every_layer", True, _ALL_CALLS, marks=pytest.mark.nightly),
        ],
        indirect=["model"],
    )
    def test_graph(self, model, jit, count):
        call = tf.function(model, jit_compile=jit)
        _assert_all_different(lambda: [_digests(call(_IMAGES))], count)

    @_cases("two_layers", 8, _SLOW_CALLS)
    def test_predict(self, model, count):
        images = np.tile(_IMAGES, (5, 1, 1, 1))

        def predict():
            outputs = model.predict(images, batch_size=len(_IMAGES), verbose=0)
            batches = [np.split(each, 5) for each in outputs]
            return [_digests(batch) for batch in zip(*batches, strict=True)]

        _assert_all_different(predict, count)

    @_cases("two_layers", _CALLS, _ALL_CALLS)
    def test_served(self, model, count, tmp_path):
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        _assert_all_different(lambda: [_digests(served.serve(_IMAGES))], count)


def _shared_net():
    """A net with a nested net, a layer called twice, and moving averages."""
    keras.utils.set_random_seed(5)
    twice = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    inner = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    hidden = keras.Sequential([keras.Input((8, 8, 4)), *inner])(twice(twice(hidden)))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(hidden)))


def _close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


class _Users:
    """What threads do with a net while another thread attacks it in bfloat16."""

    labels = np.array([0, 1, 2, 0])
    images = _IMAGES[:4]

    def __init__(self, folder):
        self.folder = folder
        self.net = _shared_net()
        self.logits = self.net(self.images).numpy()
        self.attacked = self._attacked("float32")
        self.rounded = self._attacked("bfloat16")

    def _attacked(self, precision):
        # A new attack is traced again.
        attack = PGD(0.1, steps=2, precision=precision)
        return attack.generate(self.net, self.images, self.labels, seed=0, verbose=0)

    def attack_in_bfloat16(self, turn):
        _close(self._attacked("bfloat16"), self.rounded)

    def attack(self, turn):
        _close(self._attacked("float32"), self.attacked)

    def call(self, turn):
        _close(self.net(self.images), self.logits)
        _close(tf.function(self.net)(self.images), self.logits)

    def predict_first(self, turn):
        # A model around the same layers that no thread has called yet.
        inputs = keras.Input((8, 8, 1))
        model = keras.Model(inputs, self.net(inputs))
        _close(model.predict(self.images, verbose=0), self.logits)

    def copy_and_save(self, turn):
        path = self.folder / "net.keras"
        self.net.save(path)
        with zipfile.ZipFile(path) as file:
            assert b"bfloat16" not in file.read("config.json")
        assert "bfloat16" not in keras.models.clone_model(self.net).to_json()
        _close(keras.models.load_model(path)(self.images), self.logits)

    def export(self, turn):
        self.net.export(self.folder / "served", verbose=False)
        served = tf.saved_model.load(self.folder / "served")
        _close(served.serve(self.images), self.logits)

    def train_another(self, turn):
        other = small_net()
        other.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        other.fit(self.images, self.labels, verbose=0)
        assert {each.compute_dtype for each in other.layers} == {"float32"}


class TestBfloat16OfOneThread:
    @pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.nightly)])
    def test_nobody_else_sees_it(self, rounds, tmp_path):
        users = _Users(tmp_path)
        # A mix-up would show as pixels that moved the other way.
        assert np.abs(users.attacked - users.rounded).max() > 0.01
        others = [users.attack, users.call, users.predict_first, users.train_another]
        files = [users.copy_and_save, users.export]
        run_together([users.attack_in_bfloat16, *others, *files], rounds)
        assert "bfloat16" not in users.net.to_json()
        _close(users.net.predict(users.images, verbose=0), users.logits)


def _pruned_net():
    pruning = StochasticActivationPruning(fraction=2.0, sampling="bernoulli")
    return small_net(front=[keras.layers.ReLU(), pruning]), pruning


class TestIdentityGradientOfOneThread:
    @pytest.mark.parametrize("count", [8, pytest.param(24, marks=pytest.mark.nightly)])
    def test_each_attack_finds_what_it_finds_alone(self, count):
        net, pruning = _pruned_net()
        images, labels = _IMAGES[:4], np.array([0, 1, 2, 0])
        # One attacker knows the pruning layer, the other does not.
        views = net, ModelView(net, bpda_layers=(pruning,))

        def found():
            return [
                FGSM(0.1).generate(view, images, labels, seed=0, verbose=0)
                for view in views
            ]

        alone = found()
        assert np.abs(alone[0] - alone[1]).max() > 0.01
        for both in called_by_threads(found, count):
            _close(both, alone)
        assert "call" not in vars(pruning)

    @pytest.mark.nightly
    def test_two_evaluations_give_what_one_gives(self):
        net, _ = _pruned_net()
        images = _IMAGES[:8]
        labels = np.argmax(net(images), axis=1)

        def evaluate(turn=0):
            report = keras_advdef.evaluation.evaluate_robustness(
                net, images, labels, epsilon=0.1, budget="quick", seed=0, verbose=0
            )
            run = ("run", "versions")
            return {key: each for key, each in report.data.items() if key not in run}

        alone = evaluate()
        assert any("BPDA" in str(each) for each in alone["attacks"])
        for reports in run_together([evaluate, evaluate], 2):
            assert reports == [alone, alone]
