"""Counts the images that a classifier gets right, whatever its head."""

from typing import Any

import keras

from keras_advdef.core.labels import sparse_labels
from keras_advdef.training._example_loss import ignored_class
from keras_advdef.training._parts import alone


def count_right(
    metric: keras.metrics.SparseCategoricalAccuracy,
    model: Any,
    labels: Any,
    outputs: Any,
) -> None:
    """Adds a batch to an accuracy, but for labels that the compiled loss leaves out.

    Args:
        metric: The accuracy.
        model: The training model, or its `TrainedClassifier`.
        labels: Labels as the user passed them.
        outputs: What it returned; nothing is counted if it is `None`.
    """
    if outputs is None:
        return
    outputs = alone(outputs)
    if outputs.shape[-1] == 1:
        outputs = model.logits_of(outputs)
    classes, ignored = sparse_labels(labels), ignored_class(model)
    counts = None if ignored is None else classes != ignored
    metric.update_state(classes, outputs, sample_weight=counts)
