import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training import AdversarialTrainingModel
from keras_advdef.training._count_right import count_right


def counted(labels, outputs, loss="mse"):
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = AdversarialTrainingModel(keras.Sequential(layers))
    model.compile("sgd", loss)
    metric = keras.metrics.SparseCategoricalAccuracy()
    count_right(metric, model, labels, outputs)
    return float(metric.result())


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [[0], [1], [1], [0]]])
def test_one_logit_is_of_class_one_above_zero(labels):
    # Above zero, but below one half.
    outputs = tf.constant([[-2.0], [0.25], [-0.1], [3.0]])
    assert counted(tf.constant(labels), outputs) == 0.5


def test_one_sigmoid_unit_is_of_class_one_above_one_half():
    outputs = keras.ops.sigmoid(tf.constant([[-2.0], [0.25], [-0.1], [3.0]]))
    assert counted([0, 1, 0, 0], outputs) == 0.75


def test_rows_and_lists_of_one():
    outputs = [tf.constant(np.eye(3)[[0, 1, 2, 2]])]
    assert counted(np.eye(3)[[0, 1, 1, 2]], outputs) == 0.75


def test_ignored_labels_and_missing_outputs_count_nothing():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    outputs = tf.constant(np.eye(3)[[0, 1, 2, 2]])
    assert counted([0, -1, -1, 0], outputs, loss) == 0.5
    assert counted([0, 1, 1, 0], None) == 0.0
