"""Measures success once more: in float32, and on fresh draws of a random model."""

from typing import Any

import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._strongest import is_broken
from keras_advdef.core import streams
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope


def needs_confirmation(logits_fn: LogitsFunction) -> bool:
    """Returns whether success seen during an attack may vanish afterwards.

    A random model may have been unlucky for once, and a pass in bfloat16 may have
    rounded over the boundary.

    Args:
        logits_fn: The attacked model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(model)
    >>> keras_advdef.attacks._confirm.needs_confirmation(logits_fn)
    False
    """
    return logits_fn.is_random or logits_fn.full_precision is not logits_fn


def confirm(
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    labels: tf.Tensor,
    key: tf.Tensor,
    *,
    targeted: bool,
    samples: int = 1,
) -> tf.Tensor:
    """Returns whether images succeed in float32 on draws that no attack has seen.

    Args:
        logits_fn: The attacked model.
        images: Images in `[0, 1]`, `(batch, rows, cols, channels)`.
        labels: Classes to leave or to reach, `(batch,)`.
        key: Int64 tensor of shape `(2,)`.
        targeted: Whether the labels are to be reached.
        samples: Draws whose probabilities are averaged.

    Returns:
        Boolean tensor of shape `(batch,)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(model)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> keras_advdef.attacks._confirm.confirm(
    ...     logits_fn, tf.zeros((1, 2)), tf.constant([0]), key, targeted=False).numpy()
    array([False])
    """
    key = fold_in(key, streams.CONFIRMATION)

    def draw(sample: Any) -> tuple[tf.Tensor, ...]:
        with draw_scope(fold_in(key, sample)):
            logits = logits_fn.full_precision(images)
        # A softmax of tiny logits ties where the logits themselves do not.
        return (tf.nn.softmax(logits) if samples > 1 else logits,)

    return is_broken(mean_over_draws(draw, samples)[0], labels, targeted)
