import keras
import numpy as np
import pytest

from keras_advdef.core.training_state import (
    assign_values,
    build_optimizer,
    training_state,
    values_of,
)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)]
    made = keras.Sequential([*layers, keras.layers.BatchNormalization()])
    made.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    return made


def _fit(model, epochs):
    x = np.random.default_rng(0).uniform(size=(8, 3))
    return model.fit(x, np.zeros((8, 4)), epochs=epochs, verbose=0, shuffle=False)


def test_steps_from_the_same_state_are_the_same(model):
    _fit(model, 1)
    state = training_state(model)
    before = values_of(state)
    _fit(model, 2)
    after = values_of(state)
    assign_values(model, state, before)
    _fit(model, 2)
    for one, other in zip(values_of(state), after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_holds_no_metric_and_nothing_twice(model):
    _fit(model, 1)
    state = training_state(model)
    metrics = {id(each) for metric in model.metrics for each in metric.variables}
    assert metrics
    assert not metrics & {id(each) for each in state}
    assert len({id(each) for each in state}) == len(state)


def test_values_are_copies(model):
    (found, *_) = values_of(model.weights)
    before = found.copy()
    model.weights[0].assign(np.zeros((3, 4)))
    np.testing.assert_array_equal(found, before)


def test_builds_an_optimizer_once(model):
    build_optimizer(model)
    known = model.optimizer.variables
    build_optimizer(model)
    assert [id(each) for each in model.optimizer.variables] == [id(e) for e in known]
