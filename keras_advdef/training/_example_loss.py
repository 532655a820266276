"""The compiled loss of single images, as Keras computes that of a batch."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_training import (
    compiled_loss,
    get_keras_mask,
    reduce_weighted_values,
    resolved_loss,
    scale_loss_for_distribution,
)
from keras_advdef.training._parts import alone

_DEFAULT_REDUCTION = "sum_over_batch_size"
_SUMS = ("sum", "none", None)
# Names for which Keras chooses a loss by the shapes of labels and outputs.
_NAMED_BY_SHAPE = ("crossentropy", "ce")


def single_loss(model: keras.Model) -> Any:
    """Returns the loss of a model: a `keras.losses.Loss`, a function or a name.

    Args:
        model: A model that may be compiled.

    Raises:
        ValueError: If it is not compiled with exactly one.
    """
    loss = compiled_loss(model) if model.compiled else None
    if loss is None or keras.tree.is_nested(loss):
        rule = "compiled with one loss, for example "
        rule += "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`"
        raise invalid(type(model).__name__, "loss", rule, loss)
    return loss if str(loss) in _NAMED_BY_SHAPE else keras.losses.get(loss)


def ignored_class(model: keras.Model) -> int | None:
    """Returns the label that the compiled loss leaves out, `None` if there is none.

    Args:
        model: A compiled model.
    """
    loss = single_loss(model)
    is_sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    return loss.ignore_class if is_sparse else None


def named_labels(model: keras.Model, labels: Any) -> Any:
    """Returns labels with a class in place of what the compiled loss leaves out.

    An image whose label does not count is then attacked as any other.

    Args:
        model: A compiled model.
        labels: Array or tensor of labels.
    """
    ignored = ignored_class(model)
    if ignored is None:
        return labels
    spare = int(ignored == 0)
    if isinstance(labels, np.ndarray):
        return np.where(labels == ignored, spare, labels)
    return tf.where(labels == ignored, tf.cast(spare, labels.dtype), labels)


def values_and_mask(
    model: keras.Model, labels: Any, outputs: Any
) -> tuple[tf.Tensor, Any]:
    """Returns the loss of each image, and which of them the loss counts.

    Args:
        model: A model compiled with one loss.
        labels: Labels of a batch.
        outputs: What the model returned for it.

    Returns:
        Float32 tensor of shape `(batch,)`, the weight of the loss in it and 0 where it
        does not count; a scalar if the loss is one number for a batch. And booleans
        `(batch,)`, or `None` where all count.
    """
    labels, outputs = alone(labels), alone(outputs)
    loss, weight = resolved_loss(model, labels, outputs)
    labels, outputs = (
        keras.ops.convert_to_tensor(each, dtype=loss.dtype)
        for each in (labels, outputs)
    )
    values = loss.call(labels, outputs)
    mask = get_keras_mask(values)
    values = tf.cast(values, tf.float32)
    if mask is not None:
        values *= tf.cast(mask, tf.float32)
    if weight is not None:
        values *= weight
    if values.shape.rank == 0:
        return values, mask
    rows = tf.reshape(values, [tf.shape(values)[0], -1])
    reduce = tf.reduce_sum if loss.reduction in _SUMS else tf.reduce_mean
    return reduce(rows, axis=1), mask


def reduced(
    model: keras.Model, values: tf.Tensor, weights: Any, mask: Any = None
) -> tf.Tensor:
    """Returns the loss of a batch, that of the model's own layers with it.

    Args:
        model: A model compiled with one loss, called on the batch before.
        values: Loss of each image.
        weights: Their weights, or `None`.
        mask: Which images count, or `None`.
    """
    loss = single_loss(model)
    is_loss = isinstance(loss, keras.losses.Loss)
    reduction = loss.reduction if is_loss else _DEFAULT_REDUCTION
    # Keras sums up what a loss without reduction leaves.
    total = tf.reduce_sum(reduce_weighted_values(values, weights, mask, reduction))
    # Each outermost call of the classifier starts this list anew, so what stands in it
    # now came from the last call alone.
    own = [tf.reduce_sum(tf.cast(each, total.dtype)) for each in model.losses]
    return total + scale_loss_for_distribution(tf.add_n(own)) if own else total
