"""The compiled loss of each image, computed as Keras computes that of a batch."""

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
from keras_advdef.training._batches import only_value

_DEFAULT_REDUCTION = "sum_over_batch_size"
_SUMS = ("sum", "none", None)
# Names for which Keras chooses a loss by the shapes of labels and outputs.
_NAMED_BY_SHAPE = ("crossentropy", "ce")


def check_distribution(model: keras.Model) -> None:
    """Raises for options that fail deep inside TensorFlow with several replicas.

    Args:
        model: A compiled model.

    Raises:
        ValueError: If the model has several replicas and is jitted or makes several
            steps per execution.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    owner = type(model).__name__
    if model.jit_compile is True:
        rule = "False or 'auto' under a distribution strategy"
        raise invalid(owner, "jit_compile", rule, True)
    if model.steps_per_execution != 1:
        rule = "1 under a distribution strategy"
        raise invalid(owner, "steps_per_execution", rule, model.steps_per_execution)


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
    """Returns the label that the compiled loss ignores, `None` if there is none.

    Args:
        model: A compiled model.
    """
    loss = single_loss(model)
    is_sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    return loss.ignore_class if is_sparse else None


def labels_to_attack(model: keras.Model, labels: Any) -> Any:
    """Returns labels with a valid class in place of the one that the loss ignores.

    Attacks then treat an image whose label does not count like any other.

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


def losses_and_mask(
    model: keras.Model, labels: Any, outputs: Any
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns the loss of each image, and which images count.

    Args:
        model: A model compiled with one loss.
        labels: Labels of a batch.
        outputs: What the model returned for it.

    Returns:
        Float32 tensor of shape `(batch,)`, times the weight of the loss, and 0 where an
        image does not count; a scalar if the loss is one number for a batch. And
        booleans `(batch,)`, or `None` where all images count.
    """
    labels, outputs = only_value(labels), only_value(outputs)
    loss, weight = resolved_loss(model, labels, outputs)
    labels, outputs = (
        keras.ops.convert_to_tensor(each, dtype=loss.dtype)
        for each in (labels, outputs)
    )
    losses = loss.call(labels, outputs)
    mask = get_keras_mask(losses)
    losses = tf.cast(losses, tf.float32)
    if mask is not None:
        losses *= tf.cast(mask, tf.float32)
    if weight is not None:
        losses *= weight
    if losses.shape.rank == 0:
        return losses, mask
    rows = tf.reshape(losses, [tf.shape(losses)[0], -1])
    reduce = tf.reduce_sum if loss.reduction in _SUMS else tf.reduce_mean
    return reduce(rows, axis=1), mask


def batch_loss(
    model: keras.Model,
    losses: tf.Tensor,
    weights: tf.Tensor | None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the loss of a batch, with the losses that the model's layers add.

    Args:
        model: A model compiled with one loss, already called on the batch.
        losses: Loss of each image.
        weights: Their sample weights, or `None`.
        mask: Which images count, or `None`.
    """
    loss = single_loss(model)
    is_loss = isinstance(loss, keras.losses.Loss)
    reduction = loss.reduction if is_loss else _DEFAULT_REDUCTION
    # Keras sums up what a loss without reduction leaves.
    total = tf.reduce_sum(reduce_weighted_values(losses, weights, mask, reduction))
    # Each outermost call of the classifier clears this list, so it holds the losses of
    # the last call alone.
    own = [tf.reduce_sum(tf.cast(each, total.dtype)) for each in model.losses]
    return total + scale_loss_for_distribution(tf.add_n(own)) if own else total
