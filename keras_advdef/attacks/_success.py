"""What counts as a success of an attack, and which of two results is the stronger."""

import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.core import streams
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope


def is_broken(probabilities: tf.Tensor, labels: tf.Tensor, targeted: bool) -> tf.Tensor:
    """Returns whether each image reached its target, or left its label.

    An image whose output is NaN has left its label; see `predicted_classes`.

    Args:
        probabilities: Tensor of shape `(batch, classes)`.
        labels: Classes to leave or to reach, `(batch,)`.
        targeted: Whether the labels are to be reached.

    Returns:
        Boolean tensor of shape `(batch,)`.

    Example:

    >>> keras_advdef.attacks._success.is_broken(
    ...     tf.constant([[0.9, 0.1]]), tf.constant([1]), targeted=False).numpy()
    array([ True])
    """
    hit = predicted_classes(probabilities) == tf.cast(labels, tf.int64)
    return hit if targeted else ~hit


def needs_confirmation(logits_fn: LogitsFunction) -> bool:
    """Returns whether a success seen during an attack needs a second look.

    A random model may have failed on one draw only, and a bfloat16 pass may have
    rounded across the decision boundary.

    Args:
        logits_fn: The attacked model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(model)
    >>> keras_advdef.attacks._success.needs_confirmation(logits_fn)
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
    """Returns whether images succeed in float32 and on fresh draws.

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
    >>> keras_advdef.attacks._success.confirm(
    ...     logits_fn, tf.zeros((1, 2)), tf.constant([0]), key, targeted=False).numpy()
    array([False])
    """
    key = fold_in(key, streams.CONFIRMATION)

    def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
        with draw_scope(fold_in(key, sample)):
            logits = logits_fn.full_precision(images)
        # The softmax of tiny logits may tie where the logits do not.
        return (tf.nn.softmax(logits) if samples > 1 else logits,)

    return is_broken(mean_over_draws(draw, samples)[0], labels, targeted)


def stronger(
    new: tuple[tf.Tensor, ...], old: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Merges two results of an attack: success first, then the larger loss.

    A broken image may have a smaller loss than an unbroken one, so loss alone would
    discard successes. A loss of NaN counts as the smallest.

    Args:
        new: Images, losses `(batch,)` and whether each is broken `(batch,)`.
        old: The same.

    Returns:
        The same, the stronger of the two for each image.

    Example:

    >>> images = tf.zeros((1, 2)), tf.ones((1, 2))
    >>> new = images[0], tf.constant([0.1]), tf.constant([True])
    >>> old = images[1], tf.constant([0.9]), tf.constant([False])
    >>> keras_advdef.attacks._success.stronger(new, old)[0].numpy().tolist()
    [[0.0, 0.0]]
    """
    new = new[0], tf.where(tf.math.is_nan(new[1]), tf.float32.min, new[1]), new[2]
    better = (new[2] & ~old[2]) | ((new[2] == old[2]) & (new[1] > old[1]))
    wide = per_image(better, new[0])
    images = tf.where(wide, new[0], old[0])
    return images, tf.where(better, new[1], old[1]), new[2] | old[2]
