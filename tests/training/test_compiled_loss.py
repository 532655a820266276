import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training._compiled_loss import (
    batch_loss,
    check_distribution,
    ignored_class,
    labels_to_attack,
    losses_and_mask,
    single_loss,
)
from tests.support.nets import small_net, sparse_loss


def compiled(loss, **options):
    model = small_net()
    model.compile("sgd", loss, **options)
    return model


# What all forms of losses give in `fit` stands in test_training_forms.py.
_OUTPUTS = tf.constant(np.arange(9.0).reshape(3, 3), tf.float32)


@pytest.mark.parametrize("loss", ["ce", keras.losses.MeanSquaredError()])
def test_single_loss(loss):
    assert single_loss(compiled(loss)) is loss
    assert single_loss(compiled("mse")) is keras.losses.mean_squared_error
    for model in (small_net(), compiled([loss, loss])):
        with pytest.raises(ValueError, match="`loss` to be compiled with one loss"):
            single_loss(model)


def test_ignored_class():
    ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=7)
    assert ignored_class(compiled(ignoring)) == 7
    assert ignored_class(compiled(sparse_loss())) is None
    assert ignored_class(compiled("ce")) is None


@pytest.mark.parametrize(("ignored", "expected"), [(-1, [0, 0, 2]), (0, [1, -1, 2])])
def test_labels_to_attack(ignored, expected):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    model = compiled(loss)
    labels = np.array([0, -1, 2])
    assert labels_to_attack(model, labels).tolist() == expected
    for dtype in ("int32", "float32"):
        found = labels_to_attack(model, tf.constant(labels, dtype))
        assert found.numpy().tolist() == expected
    assert labels_to_attack(compiled("ce"), labels) is labels


@pytest.mark.parametrize(
    ("reduction", "reduce"), [("sum_over_batch_size", np.mean), ("sum", np.sum)]
)
def test_values_of_several_axes_count_as_keras_counts_them(reduction, reduce):
    class Squares(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return (y_true - y_pred) ** 2

    model = compiled(Squares(reduction=reduction), loss_weights=0.5)
    labels = np.eye(3, dtype="float32")
    values, mask = losses_and_mask(model, labels, _OUTPUTS)
    expected = 0.5 * reduce((labels - _OUTPUTS.numpy()) ** 2, axis=1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert mask is None


def test_what_is_ignored_has_no_value():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model = compiled(loss)
    labels = tf.constant([0, -1, 2])
    values, mask = losses_and_mask(model, labels, _OUTPUTS)
    assert mask.numpy().tolist() == [True, False, True]
    assert values.numpy()[1] == 0.0
    total = batch_loss(model, values, None, mask)
    assert float(total) == pytest.approx(float(loss(labels, _OUTPUTS)), rel=1e-6)
    # Those that count are weighted, and their weights alone divide.
    weights = tf.constant([1.0, 5.0, 3.0])
    total = batch_loss(model, values, weights, mask)
    expected = float(loss(labels, _OUTPUTS, weights))
    assert float(total) == pytest.approx(expected, rel=1e-6)


def test_a_single_replica_takes_all_options():
    check_distribution(compiled("mse", jit_compile=True, steps_per_execution=2))


@pytest.mark.parametrize(
    ("options", "name"),
    [({"jit_compile": True}, "jit_compile"), ({"steps_per_execution": 2}, "steps_per")],
)
def test_several_replicas_do_not(options, name):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = compiled("mse", **{"jit_compile": False, **options})
    with pytest.raises(ValueError, match=f"`Sequential` expects `{name}"):
        check_distribution(model)
