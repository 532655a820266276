"""The labels that an attack leaves or reaches, as it takes them."""

from typing import Any

import tensorflow as tf

from keras_advdef.core import streams
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.value_range import (
    check_values,
    checked_labels,
    soft_labels,
    sparse_labels,
    tell_small_epsilon,
)


def given(attack: Any, labels: Any) -> tf.Tensor:
    """Returns labels as `perturb` takes them: rows only where they matter.

    Args:
        attack: The attack.
        labels: Integer labels, one-hot or rows of probabilities.
    """
    return soft_labels(labels) if attack.takes_rows else sparse_labels(labels)


def given_or_predicted(
    attack: Any,
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    labels: Any,
    key: tf.Tensor,
) -> tf.Tensor:
    """Returns labels as `perturb` takes them, or the model's own predictions.

    Args:
        attack: The attack.
        logits_fn: The attacked model.
        images: Clean images in `[0, 1]`.
        labels: Labels, or `None`.
        key: Key for the draws of a random model.
    """
    if labels is not None:
        return given(attack, labels)
    # Of NaN, which a graph cannot refuse, some class: losses take no other label.
    with draw_scope(fold_in(key, streams.PREDICTION)):
        return tf.argmax(logits_fn(images), axis=-1)


def check_eager(attack: Any, images: tf.Tensor, labels: Any, epsilon: Any) -> None:
    """Raises if eager images or labels are none that can be attacked.

    Args:
        attack: The attack.
        images: Images in its value range.
        labels: Labels, or `None`.
        epsilon: What the call overrides the attack's with, or `None`; a number that
            changes next to nothing is told of.

    Raises:
        ValueError: If they are not.
    """
    owner = type(attack).__name__
    radius = attack.epsilon if epsilon is None else epsilon
    if isinstance(radius, (int, float)):
        tell_small_epsilon(owner, radius, attack.value_range)
    check_values(owner, images.numpy(), attack.value_range)
    if labels is not None:
        checked_labels(owner, labels, count=len(images), classes=None)
