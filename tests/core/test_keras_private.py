"""One test per name, so that a new Keras release that moves one is noticed by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import keras_private


def _model(*layers):
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])


def test_every_name_has_a_test():
    tests = {name.removeprefix("test_") for name in globals()}
    assert set(keras_private.__all__) <= tests


def test_MonitoredMetrics():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            accuracy = keras.metrics.SparseCategoricalAccuracy(name="robust")
            self.extra = keras_private.MonitoredMetrics([accuracy])
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((2, 3)), np.zeros(2), verbose=0)
    metric = model.extra.metrics[0]
    metric.update_state([0, 1], [[2.0, 1.0], [2.0, 1.0]])
    assert model.extra.result() == {"robust": 0.5}
    assert model.extra in model.metrics or metric in model.metrics

    # `EarlyStopping` finds by itself that accuracy shall grow.
    stopping = keras.callbacks.EarlyStopping(monitor="val_robust", mode="auto")
    stopping.set_model(model)
    stopping.on_train_begin()
    stopping.on_epoch_end(0, {"val_robust": 0.5})
    stopping.on_epoch_end(1, {"val_robust": 0.9})
    assert stopping.best == 0.9


def test_SoftmaxOperation():
    inputs = keras.Input((3,))
    operation = keras_private.producer(keras.ops.softmax(inputs))
    assert isinstance(operation, keras_private.SoftmaxOperation)
    assert operation.axis == -1


def test_callbacks_beside():
    seen = []

    class Curious(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.extend(keras_private.callbacks_beside(self))

    first, second = Curious(), keras.callbacks.Callback()
    model = _model()
    model.compile("sgd", "mse")
    arrays = np.zeros((2, 2)), np.zeros(2)
    model.fit(*arrays, callbacks=[first, second], verbose=0)
    assert seen.index(first) < seen.index(second)
    assert keras_private.callbacks_beside(first) == [first]


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanAbsoluteError(), None])
def test_compiled_loss(loss):
    model = _model()
    model.compile("sgd", loss)
    assert keras_private.compiled_loss(model) is loss


def test_flat_layers():
    inner, dense = _model(), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((2,)), inner, dense])
    flat = keras_private.flat_layers(model)
    assert flat[0] is model
    assert {id(layer) for layer in (inner, dense, inner.layers[-1])} <= set(
        map(id, flat)
    )


def test_has_graph():
    class Subclass(keras.Model):
        def call(self, inputs):
            return inputs

    class Renamed(keras.Sequential):
        """A subclass without a call of its own."""

    class Overridden(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs) * 2

    built = _model()
    assert keras_private.has_graph(built)
    assert keras_private.has_graph(keras.Model(built.inputs, built.outputs))
    assert keras_private.has_graph(Renamed([keras.Input((2,)), keras.layers.Dense(1)]))
    assert not keras_private.has_graph(keras.Sequential([keras.layers.Dense(1)]))
    assert not keras_private.has_graph(
        Overridden([keras.Input((2,)), keras.layers.Dense(1)])
    )
    assert not keras_private.has_graph(Subclass())
    assert not keras_private.has_graph(keras.layers.Dense(1))
    assert not keras_private.has_graph(len)


def test_inbound_tensors():
    one, other = keras.Input((2,)), keras.Input((3,))
    both = keras.layers.Concatenate()([one, other])
    inbound = keras_private.inbound_tensors(both)
    assert inbound[0] is one
    assert inbound[1] is other
    # A shared layer has one node per call.
    shared = keras.layers.Dense(2)
    first, second = shared(one), shared(keras.layers.Dense(2)(one))
    assert keras_private.inbound_tensors(first)[0] is one
    assert keras_private.inbound_tensors(second)[0] is not one
    assert keras_private.inbound_tensors(one) == []


def test_kept_losses():
    class AddsLoss(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.sum(inputs))
            return inputs

    model = _model(AddsLoss())
    model(np.full((1, 2), 2.0))
    assert [loss.numpy() for loss in model.losses] == [4.0]
    with keras_private.kept_losses(model):
        model(np.full((1, 2), 3.0))
        assert [loss.numpy() for loss in model.losses] == [6.0]
    assert [loss.numpy() for loss in model.losses] == [4.0]


def test_loss_tracker():
    model = _model()
    model.compile("sgd", "mse")
    arrays = np.ones((4, 2)), np.full((4, 1), 7.0)
    logs = model.evaluate(*arrays, return_dict=True, verbose=0)
    tracker = keras_private.loss_tracker(model)
    assert isinstance(tracker, keras.metrics.Mean)
    assert float(tracker.result()) == pytest.approx(logs["loss"])
    assert logs["loss"] > 0


def test_make_default_seed():
    seeds = []
    for start in (1, 1, 2):
        keras.utils.set_random_seed(start)
        seeds.append(keras_private.make_default_seed())
    assert seeds[0] == seeds[1] != seeds[2]
    assert isinstance(seeds[0], int)


def test_producer():
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(1)
    assert keras_private.producer(dense(inputs)) is dense
    assert type(keras_private.producer(keras.ops.softmax(inputs))).__name__ == "Softmax"


def test_reduce_weighted_values():
    values = tf.constant([1.0, 2.0, 6.0])
    reduced = keras_private.reduce_weighted_values(
        values, sample_weight=tf.constant([1.0, 1.0, 0.5]), reduction="sum"
    )
    # 1 + 2 + 3.
    assert reduced.numpy() == 6.0
    mean = keras_private.reduce_weighted_values(values, reduction="sum_over_batch_size")
    assert mean.numpy() == 3.0


def test_scale_loss_for_distribution():
    # In one replica nothing changes; with two, the sum over them shall be the mean.
    loss = tf.constant(3.0)
    assert keras_private.scale_loss_for_distribution(loss).numpy() == 3.0


def test_seed_state_variables():
    inner = _model(keras.layers.Dropout(0.5))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.1), inner])
    states = keras_private.seed_state_variables(model)
    assert {state.path for state in states} == {
        layer.seed_generator.state.path for layer in (model.layers[0], inner.layers[0])
    }
    assert [tuple(state.shape) for state in states] == [(2,), (2,)]
    model(np.zeros((1, 2)), training=True)
    assert [state.numpy()[1] for state in states] == [1, 1]


def test_unscale_loss_for_distribution():
    loss = tf.constant(3.0)
    scaled = keras_private.scale_loss_for_distribution(loss)
    assert keras_private.unscale_loss_for_distribution(scaled).numpy() == 3.0


def test_prepare_for_workers():
    # Training on two workers stands in test_distribution.py; elsewhere all stays.
    model = _model()
    before = model._maybe_symbolic_build
    keras_private.prepare_for_workers(model)
    assert model._maybe_symbolic_build == before


def test_worker_logs(monkeypatch):
    model, logs = _model(), {"loss": tf.constant(2.0)}
    assert keras_private.worker_logs(model, logs) is logs
    monkeypatch.setattr(keras_private, "_has_workers", lambda model: True)
    assert keras_private.worker_logs(model, logs)["loss"].shape == (1,)
