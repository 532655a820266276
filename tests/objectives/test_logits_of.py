"""`model.logits_of` gives objectives and penalties logits, whatever head a net has."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.objectives import CrossLipschitz, DeepDefense, Penalty
from keras_advdef.training import AdversarialTrainingModel
from tests.support.form_operations import attack_on
from tests.support.model_forms import FORMS
from tests.support.trades import Trades

# TF-Keras models, which training refuses.
_REFUSED = ("legacy",)
_TOLERANCE = {"logits": 1e-5, "logarithm": 1e-4}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`"),
    pytest.mark.filterwarnings("ignore:.*returns probabilities"),
    pytest.mark.filterwarnings("ignore:.*has an `Input` of uint8"),
]


@pytest.fixture
def layer_calls(monkeypatch):
    """The layers that Keras calls, in their order."""
    calls = []
    call = keras.layers.Layer.__call__

    def counted(layer, *args, **kwargs):
        calls.append(layer.name)
        return call(layer, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", counted)
    return calls


def _trained(brought, graph=False):
    """Returns a training model of what a user brings, and a batch for it."""
    model = AdversarialTrainingModel(brought.model)
    model.compile("sgd", brought.loss)
    images = tf.constant(brought.images, tf.float32)
    adversarial = images + 0.1 * brought.value_range[1] * tf.sign(0.5 - images)

    def first_call(images):
        return model.logits_of(model(images))

    # Builds the model and probes its head, before calls are counted.
    (tf.function(first_call) if graph else first_call)(images)
    return model, images, tf.constant(brought.labels), adversarial


def _calls_of(layer_calls, function, batch):
    """Returns what a function gives for a batch, and the layers it calls."""
    layer_calls.clear()
    given = function(*batch)
    return given, list(layer_calls)


def _two_passes(model, images, labels, adversarial):
    del labels
    return model(images, training=True), model(adversarial, training=True)


def _trades(model, images, labels, adversarial):
    return Trades()(model, images, labels, adversarial)[0]


@pytest.fixture(scope="module")
def of_bare_twin():
    """Returns what a function gives for the bare twin of a form, computed once."""
    given = {}

    def of(function, form):
        if (function, form.name) not in given:
            given[function, form.name] = function(form.make(bare=True))
        return given[function, form.name]

    return of


def _bare_trades(brought):
    return _trades(*_trained(brought))


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_users_trades_is_that_of_the_bare_twin(
    form, graph, of_bare_twin, layer_calls
):
    if form.name in _REFUSED:
        with pytest.raises(TypeError, match="expects `classifier` to be"):
            _trained(form.make())
        return

    def run(function, batch):
        model, *tensors = batch

        def on_tensors(*tensors):
            return function(model, *tensors)

        called = tf.function(on_tensors) if graph else on_tensors
        return _calls_of(layer_calls, called, tensors)

    brought, expected = form.make(), of_bare_twin(_bare_trades, form)
    batch = _trained(brought, graph)
    found, calls = run(_trades, batch)
    assert calls == run(_two_passes, batch)[1]
    assert found.shape == (len(brought.images),)
    tolerance = _TOLERANCE[form.through]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def _forms(*names):
    return [form for form in FORMS if form.name in names]


_HIDDEN = ("sigmoid_unit", "softmax_before_pooling", "subclassed_probabilities")


def _history(brought, eager=True):
    model = AdversarialTrainingModel(
        brought.model, attack_on(brought), Trades(), seed=1
    )
    model.compile(keras.optimizers.SGD(0.1), brought.loss, run_eagerly=eager)
    fit = {"epochs": 2, "shuffle": False, "verbose": 0}
    return model.fit(brought.images, brought.labels, **fit).history


@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("form", _forms(*_HIDDEN), ids=str)
def test_a_users_trades_trains_as_its_bare_twin(form, eager, of_bare_twin):
    found, expected = _history(form.make(), eager), of_bare_twin(_history, form)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4)


@keras.saving.register_keras_serializable(package="tests")
class SmallOutputs(Penalty):
    """A penalty as a user writes it."""

    def __call__(self, model, images, labels):
        logits = model.logits_of(model(images, training=False))
        return self.weight * tf.reduce_sum(logits**2, axis=-1)


class StillLogitSize(SmallOutputs):
    """One that is made of another."""

    def __call__(self, model, images, labels):
        return 2.0 * super().__call__(model, images, labels)


@pytest.mark.parametrize(
    "penalty",
    [
        CrossLipschitz(weight=0.1),
        DeepDefense(weight=0.1, steps=1),
        SmallOutputs(weight=0.1),
        StillLogitSize(weight=0.1),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
@pytest.mark.parametrize("form", _forms("softmax_dense", *_HIDDEN), ids=str)
def test_a_penalty_takes_plain_classifiers(penalty, form):
    model, images, labels, _ = _trained(form.make())
    expected = penalty(model, images, labels)
    np.testing.assert_allclose(penalty(model.classifier, images, labels), expected)
    bare, *_ = _trained(form.make(bare=True))
    np.testing.assert_allclose(
        penalty(bare.classifier, images, labels), expected, rtol=1e-4, atol=1e-5
    )
