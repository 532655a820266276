"""Losses, data and options as users bring them; right is what Keras itself computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef as advdef
from tests.support.training_forms import (
    DATA,
    LOSSES,
    OPTIONS,
    LossForm,
    small_images,
    small_net,
)

_FIT = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
_EAGER = {"run_eagerly": True}
_SPARSE = LossForm(
    "sparse", lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)


def _fitted(form, *, wrap, optimizer=None, compiled=None, data=None, attack=None):
    """Returns history and weights of a net, by our training step or by Keras alone."""
    net = small_net(form.activation, form.units)
    model = net
    if wrap:
        model = advdef.training.AdversarialTrainingModel(net, attack, seed=1)
    model.compile(
        keras.optimizers.SGD(0.5, **(optimizer or {})),
        form.loss(),
        **form.compiled,
        **(compiled or {}),
    )
    data = data or {"x": small_images(), "y": form.labels, **_FIT}
    history = model.fit(**data, **form.fitted).history
    return history, net.get_weights()


def _assert_same(one, other, tolerance=1e-5):
    np.testing.assert_allclose(one[0]["loss"], other[0]["loss"], rtol=tolerance)
    for found, expected in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.fixture(scope="module")
def of_clean_images():
    """Returns what our step gives for a form, fitted once."""
    fitted = {}

    def of(form):
        if form.name not in fitted:
            fitted[form.name] = _fitted(form, wrap=True, compiled=_EAGER)
        return fitted[form.name]

    return of


@pytest.fixture(scope="module")
def of_keras():
    """Returns what Keras gives for a form, fitted once."""
    fitted = {}

    def of(form):
        if form.name not in fitted:
            fitted[form.name] = _fitted(form, wrap=False, compiled=_EAGER)
        return fitted[form.name]

    return of


@pytest.mark.parametrize("form", LOSSES, ids=str)
def test_losses_are_those_of_keras(form, of_clean_images, of_keras):
    _assert_same(of_clean_images(form), of_keras(form))


# Of each kind of labels and weights, one form is traced in the gate.
_TRACED = ("binary_column", "label_smoothing", "ignore_class", "sample_weight")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            form,
            id=form.name,
            marks=() if form.name in _TRACED else pytest.mark.nightly,
        )
        for form in LOSSES
    ],
)
def test_losses_are_those_of_keras_where_a_step_is_traced(form, of_keras):
    _assert_same(_fitted(form, wrap=True), of_keras(form))


@pytest.mark.parametrize("form", LOSSES, ids=str)
def test_losses_meet_an_attack(form, of_clean_images):
    attack = advdef.attacks.FGSM(0.05)
    clean, _ = of_clean_images(form)
    # That a graph gives the same is in test_adversarial_training_model.py.
    attacked, _ = _fitted(form, wrap=True, attack=attack, compiled=_EAGER)
    assert np.isfinite(attacked["loss"]).all()
    assert attacked["loss"][0] > clean["loss"][0]


@pytest.fixture(scope="module")
def of_arrays():
    attack = advdef.attacks.FGSM(0.05)
    return _fitted(_SPARSE, wrap=True, attack=attack)


# Keras says so of every dataset whose length it does not know.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("form", DATA, ids=str)
def test_data_train_alike_in_whatever_form(form, of_arrays):
    attack = advdef.attacks.FGSM(0.05)
    data = form.arguments(small_images(), _SPARSE.labels)
    data = {**data, "epochs": 2, "verbose": 0}
    _assert_same(_fitted(_SPARSE, wrap=True, attack=attack, data=data), of_arrays)


def test_batches_train_alike_one_by_one(of_arrays):
    net = small_net()
    attack = advdef.attacks.FGSM(0.05)
    model = advdef.training.AdversarialTrainingModel(net, attack, seed=1)
    model.compile(keras.optimizers.SGD(0.5), _SPARSE.loss())
    x, y = small_images(), _SPARSE.labels
    for start in (0, 4, 8) * 2:
        rows = slice(start, start + 4)
        logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
    assert np.isfinite(logs["loss"])
    for found, expected in zip(net.get_weights(), of_arrays[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("form", OPTIONS, ids=str)
def test_options_do_what_they_do_in_keras(form):
    options = {"optimizer": form.optimizer, "compiled": form.compiled}
    _assert_same(
        _fitted(_SPARSE, wrap=True, **options),
        _fitted(_SPARSE, wrap=False, **options),
        1e-4 if form.name == "jit" else 1e-5,
    )


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            form,
            id=form.name,
            marks=() if form.compiled else pytest.mark.nightly,
        )
        for form in OPTIONS
    ],
)
def test_options_meet_an_attack(form, of_arrays):
    attack = advdef.attacks.FGSM(0.05)
    options = {"optimizer": form.optimizer, "compiled": form.compiled}
    history, _ = _fitted(_SPARSE, wrap=True, attack=attack, **options)
    # Before the first step nothing differs; later losses depend on the option.
    assert np.isfinite(history["loss"]).all()
    assert history.keys() == of_arrays[0].keys()


@pytest.mark.parametrize(
    ("attack", "keyed_loss"), [(None, False), (advdef.attacks.FGSM(0.05), True)]
)
def test_an_output_alone_in_a_dictionary(attack, keyed_loss):
    histories = []
    for keyed in (False, True):
        net = small_net("softmax")
        if keyed:
            net = keras.Model(net.inputs, {"class": net.outputs[0]})
        model = advdef.training.AdversarialTrainingModel(
            net, attack, validation_attack=attack, seed=1
        )
        loss, labels = "sparse_categorical_crossentropy", _SPARSE.labels
        if keyed and keyed_loss:
            loss, labels = {"class": loss}, {"class": labels}
        options = {"metrics": ["accuracy"], "run_eagerly": attack is not None}
        model.compile(keras.optimizers.SGD(0.5), loss, **options)
        data = (small_images(), labels)
        fit = {**_FIT, "epochs": 1}
        histories.append(model.fit(*data, validation_data=data, **fit).history)
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "eager", [True, pytest.param(False, marks=pytest.mark.nightly)]
)
def test_a_net_of_keras_applications_trains_as_its_bare_twin(eager):
    images = np.random.default_rng(0).uniform(0, 1, (4, 32, 32, 3)).astype("float32")
    logs = []
    for head in ("softmax", None):
        keras.utils.set_random_seed(0)
        net = keras.applications.MobileNetV2(
            (32, 32, 3), 0.35, weights=None, classes=10, classifier_activation=head
        )
        attack = advdef.attacks.PGD(0.03, steps=1)
        model = advdef.training.AdversarialTrainingModel(net, attack, seed=1)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=head is None)
        model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=eager)
        for _ in range(2):
            found = model.train_on_batch(images, np.arange(4), return_dict=True)
        logs.append(found)
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


def _mixed(layer):
    """Returns one batch whose images and labels a layer has mixed."""
    rows = np.eye(3, dtype="float32")[_SPARSE.labels]

    def mix(images, labels):
        found = layer({"images": images, "labels": labels}, training=True)
        return found["images"], found["labels"]

    images = small_images().astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, rows)).batch(12).map(mix).cache()


# Shares far from 0 and 1.
@pytest.mark.parametrize(
    ("layer", "options"),
    [(keras.layers.MixUp, {"alpha": 5.0}), (keras.layers.CutMix, {"factor": (1, 1)})],
)
def test_an_attack_ascends_the_loss_of_the_mixture(layer, options):
    """Mixed labels survive: neither attack nor loss takes the largest for the whole."""
    data = _mixed(layer(seed=4, **options))
    ((x, y),) = data.as_numpy_iterator()
    assert ((y > 0.1) & (y < 0.9)).any(axis=1).sum() > 2
    net, seen = small_net(), []
    model = advdef.training.AdversarialTrainingModel(net, advdef.attacks.FGSM(0.05))
    prepare = model.prepare

    def watched(*arguments):
        prepared = prepare(*arguments)
        tf.py_function(lambda each: seen.append(each.numpy()), prepared.batches, [])
        return prepared

    model.prepare = watched
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["categorical_accuracy"])
    logs = model.fit(data, shuffle=False, verbose=0).history

    def step(labels):
        points = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(points)
            value = loss(labels, net(points))
        return np.sign(tape.gradient(value, points))

    (found,), largest = seen, np.eye(3)[y.argmax(axis=1)]
    assert np.mean(step(y) != step(largest)) > 0.01
    np.testing.assert_allclose(found, np.clip(x + 0.05 * step(y), 0, 1), atol=1e-6)
    assert logs["loss"][0] == pytest.approx(float(loss(y, net(found))), rel=1e-5)
    # An accuracy counts the class with the largest share, as Keras's own does.
    right = np.mean(net(found).numpy().argmax(axis=1) == y.argmax(axis=1))
    for name in ("adversarial_accuracy", "adversarial_categorical_accuracy"):
        assert logs[name][0] == pytest.approx(right)
