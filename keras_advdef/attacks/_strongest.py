"""Keeps, for each image, the strongest point an attack has met."""

from typing import Any

import tensorflow as tf

from keras_advdef.core.answers import predicted_classes
from keras_advdef.core.norms import per_image

State = dict[str, Any]


def stronger(
    new: tuple[tf.Tensor, ...], old: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Merges two results of an attack: success first, then the larger loss.

    A broken image may have a smaller loss than an unbroken one, so loss alone would
    throw successes away. A loss of NaN is the smallest there is.

    Args:
        new: Images, losses `(batch,)` and whether each is broken `(batch,)`.
        old: The same.

    Returns:
        The same, the stronger of the two for each image.

    Example:

    >>> images = tf.zeros((1, 2)), tf.ones((1, 2))
    >>> new = images[0], tf.constant([0.1]), tf.constant([True])
    >>> old = images[1], tf.constant([0.9]), tf.constant([False])
    >>> keras_advdef.attacks._strongest.stronger(new, old)[0].numpy().tolist()
    [[0.0, 0.0]]
    """
    new = new[0], tf.where(tf.math.is_nan(new[1]), tf.float32.min, new[1]), new[2]
    better = (new[2] & ~old[2]) | ((new[2] == old[2]) & (new[1] > old[1]))
    wide = per_image(better, new[0])
    images = tf.where(wide, new[0], old[0])
    return images, tf.where(better, new[1], old[1]), new[2] | old[2]


def keep_best(state: State, losses: tf.Tensor, broken: tf.Tensor) -> State:
    """Returns an attack's state with its best point updated by its current one.

    Args:
        state: Dictionary with "iterate", "best", "best_loss" and "broken".
        losses: Losses of the iterate, `(batch,)`.
        broken: Whether the iterate succeeds, `(batch,)`.
    """
    new = (state["iterate"], losses, broken)
    old = (state["best"], state["best_loss"], state["broken"])
    best, best_loss, is_broken = stronger(new, old)
    return {**state, "best": best, "best_loss": best_loss, "broken": is_broken}


def is_broken(probabilities: tf.Tensor, labels: tf.Tensor, targeted: bool) -> tf.Tensor:
    """Returns whether each image reached its target, or left its label.

    An image without an answer, NaN, has left its label; see `predicted_classes`.

    Args:
        probabilities: Tensor of shape `(batch, classes)`.
        labels: Classes to leave or to reach, `(batch,)`.
        targeted: Whether the labels are to be reached.

    Returns:
        Boolean tensor of shape `(batch,)`.

    Example:

    >>> keras_advdef.attacks._strongest.is_broken(
    ...     tf.constant([[0.9, 0.1]]), tf.constant([1]), targeted=False).numpy()
    array([ True])
    """
    hit = predicted_classes(probabilities) == tf.cast(labels, tf.int64)
    return hit if targeted else ~hit
