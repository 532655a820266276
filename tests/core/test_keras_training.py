"""One test per name, to show which ones a new Keras release changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import keras_training


def _model(*layers):
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])


def test_every_name_has_a_test():
    tests = {name.removeprefix("test_") for name in globals()}
    assert set(keras_training.__all__) <= tests


def test_MonitoredMetrics():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            accuracy = keras.metrics.SparseCategoricalAccuracy(name="robust")
            self.extra = keras_training.MonitoredMetrics([accuracy])
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

    # `EarlyStopping` infers that accuracy should grow.
    stopping = keras.callbacks.EarlyStopping(monitor="val_robust", mode="auto")
    stopping.set_model(model)
    stopping.on_train_begin()
    stopping.on_epoch_end(0, {"val_robust": 0.5})
    stopping.on_epoch_end(1, {"val_robust": 0.9})
    assert stopping.best == 0.9


def test_running_callbacks():
    seen = []

    class Curious(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.extend(keras_training.running_callbacks(self))

    first, second = Curious(), keras.callbacks.Callback()
    model = _model()
    model.compile("sgd", "mse")
    arrays = np.zeros((2, 2)), np.zeros(2)
    model.fit(*arrays, callbacks=[first, second], verbose=0)
    assert seen.index(first) < seen.index(second)
    assert keras_training.running_callbacks(first) == [first]


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanAbsoluteError(), None])
def test_compiled_loss(loss):
    model = _model()
    model.compile("sgd", loss)
    assert keras_training.compiled_loss(model) is loss


def test_compiled_metric_names():
    model = _model()
    model.compile("sgd", "mse")
    assert keras_training.compiled_metric_names(model) == []
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
    model.evaluate(np.zeros((2, 2)), np.zeros(2), verbose=0)
    assert keras_training.compiled_metric_names(model) == ["mae", "mse"]


def test_build_metrics():
    model = _model()
    model.compile("sgd", "mse", metrics=["mae"])
    batch, traces = np.ones((2, 1)), []

    @tf.function
    def record(labels, outputs):
        traces.append(1)
        keras_training.build_metrics(model, labels, outputs)
        model.compute_metrics(None, labels, outputs)

    record(batch, 3.0 * batch)
    record(batch, batch)
    assert len(traces) == 1
    assert model.get_metrics_result()["mae"] == 1.0


def test_decays_weight():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(layer.trainable_variables)
    assert keras_training.decays_weight(optimizer, layer.kernel)
    assert not keras_training.decays_weight(optimizer, layer.bias)


def test_get_keras_mask():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)
    values = loss.call(tf.constant([0, 1]), tf.constant([[0.5, 0.5], [0.5, 0.5]]))
    assert keras_training.get_keras_mask(values).numpy().tolist() == [False, True]
    assert keras_training.get_keras_mask(tf.constant(1.0)) is None


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("crossentropy", [[1.0], [0.0]], "binary_crossentropy"),
        (lambda labels, outputs: outputs, [0, 1], "<lambda>"),
        (keras.losses.MeanSquaredError(), [0, 1], "mean_squared_error"),
    ],
)
def test_resolved_loss(name, labels, expected):
    model = _model()
    model.compile("sgd", name, loss_weights=2.0)
    loss, weight = keras_training.resolved_loss(
        model, tf.constant(labels), tf.constant([[0.5], [0.5]])
    )
    assert isinstance(loss, keras.losses.Loss)
    assert expected in (loss.name, getattr(loss.fn, "__name__", ""))
    assert weight == 2.0


def test_loss_tracker():
    model = _model()
    model.compile("sgd", "mse")
    arrays = np.ones((4, 2)), np.full((4, 1), 7.0)
    logs = model.evaluate(*arrays, return_dict=True, verbose=0)
    tracker = keras_training.loss_tracker(model)
    assert isinstance(tracker, keras.metrics.Mean)
    assert float(tracker.result()) == pytest.approx(logs["loss"])
    assert logs["loss"] > 0


def test_reduce_weighted_values():
    values = tf.constant([1.0, 2.0, 6.0])
    reduced = keras_training.reduce_weighted_values(
        values, sample_weight=tf.constant([1.0, 1.0, 0.5]), reduction="sum"
    )
    # 1 + 2 + 3.
    assert reduced.numpy() == 6.0
    mean = keras_training.reduce_weighted_values(
        values, reduction="sum_over_batch_size"
    )
    assert mean.numpy() == 3.0


def test_scale_loss_for_distribution():
    # One replica changes nothing; the sum over two must be the mean.
    loss = tf.constant(3.0)
    assert keras_training.scale_loss_for_distribution(loss).numpy() == 3.0


def test_unscale_loss_for_distribution():
    loss = tf.constant(3.0)
    scaled = keras_training.scale_loss_for_distribution(loss)
    assert keras_training.unscale_loss_for_distribution(scaled).numpy() == 3.0


def test_prepare_for_workers():
    # test_distribution.py trains on two workers; elsewhere nothing changes.
    model = _model()
    before = model._maybe_symbolic_build
    keras_training.prepare_for_workers(model)
    assert model._maybe_symbolic_build == before


def test_worker_logs(monkeypatch):
    model, logs = _model(), {"loss": tf.constant(2.0)}
    assert keras_training.worker_logs(model, logs) is logs
    monkeypatch.setattr(keras_training, "_has_workers", lambda model: True)
    assert keras_training.worker_logs(model, logs)["loss"].shape == (1,)


def test_averaged_weights():
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    inner = keras.optimizers.SGD(use_ema=True)
    for optimizer in (inner, keras.optimizers.LossScaleOptimizer(inner)):
        optimizer.build(layer.trainable_variables)
        pairs = keras_training.averaged_weights(optimizer)
        assert pairs[0][0] is layer.kernel
        assert [average.shape for _, average in pairs] == [(2, 1), (1,)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(layer.trainable_variables)
    assert keras_training.averaged_weights(optimizer) == []


@pytest.mark.parametrize("metrics", [["mae"], None])
def test_compiled_metrics(metrics):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=metrics)
    assert keras_training.compiled_metrics(model) == metrics
