"""What attacks share that see only the predicted class."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_advdef.core import streams
from keras_advdef.core.image_layout import flattened
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image, shrink
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.core.random_numbers import fold_in, uniform
from keras_advdef.core.random_state import draw_scope

# From images and a key to a truth value for each.
Decide = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def decides(
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    key: tf.Tensor,
    *,
    labels: tf.Tensor,
    targeted: bool,
) -> tf.Tensor:
    """Returns whether the model predicts what the attack wants; one forward pass.

    A model that gives NaN has left its label; see `predicted_classes`.

    Args:
        logits_fn: The attacked model.
        images: Images in `[0, 1]`, once or several times the batch, one batch after the
            other.
        key: Key for the draws of a random model.
        labels: Classes to leave or to reach, `(batch,)`.
        targeted: Whether the labels are to be reached.

    Returns:
        Boolean tensor, one value for each of `images`.

    Example:

    >>> from keras_advdef.core.logits import LogitsFunction
    >>> from keras_advdef.core.random_numbers import make_key
    >>> logits_fn = LogitsFunction(lambda x: tf.concat([x - 0.5, 0.5 - x], axis=1))
    >>> keras_advdef.attacks._decisions.decides(
    ...     logits_fn, tf.constant([[0.2], [0.9]]), make_key(0),
    ...     labels=tf.constant([0]), targeted=False).numpy()
    array([ True, False])
    """
    with draw_scope(key):
        classes = predicted_classes(logits_fn(images))
    hit = tf.reshape(classes, [-1, tf.shape(labels)[0]]) == tf.cast(labels, tf.int64)
    hit = tf.reshape(hit, [-1])
    return hit if targeted else ~hit


def first_points(
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    labels: tf.Tensor,
    key: tf.Tensor,
    *,
    targeted: bool,
    tries: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns distant points whose predicted class is as wanted.

    Every other try is uniform noise, as in the papers. Many models predict one class
    for all of it, so the tries between are black and white pixels of random brightness.
    Noise rarely falls in a target class, so a targeted attack first takes the nearest
    image of the batch that is predicted as the target.

    Args:
        logits_fn: The attacked model.
        images: Clean images in `[0, 1]`, `(batch, ...)`.
        labels: Classes to leave or to reach, `(batch,)`.
        key: Key for the draws.
        targeted: Whether the labels are to be reached.
        tries: Most draws of noise per image.

    Returns:
        The points, clean images where none was found, and whether one was found.

    Example:

    >>> from keras_advdef.core.logits import LogitsFunction
    >>> from keras_advdef.core.random_numbers import make_key
    >>> logits_fn = LogitsFunction(lambda x: tf.concat([x - 0.5, 0.5 - x], axis=1))
    >>> points, found = keras_advdef.attacks._decisions.first_points(
    ...     logits_fn, tf.constant([[0.9]]), tf.constant([0]), make_key(0),
    ...     targeted=False, tries=50)
    >>> bool(points[0, 0] < 0.5), found.numpy().tolist()
    (True, [True])
    """
    decide = functools.partial(decides, logits_fn, labels=labels, targeted=targeted)
    points, found = images, tf.zeros_like(labels, tf.bool)
    if targeted:
        points, found = _donors(logits_fn, images, labels, fold_in(key, streams.DONORS))

    def attempt(
        index: tf.Tensor, points: tf.Tensor, found: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        own = fold_in(key, index)
        noise = _noise(fold_in(own, 0), images, index)
        new = ~found & decide(noise, fold_in(own, 1))
        return index + 1, tf.where(per_image(new, images), noise, points), found | new

    _, points, found = tf.while_loop(
        lambda index, points, found: (index < tries) & tf.reduce_any(~found),
        attempt,
        (tf.constant(0), points, found),
        parallel_iterations=1,
    )
    return points, found


def _noise(key: tf.Tensor, images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Draws uniform noise, or, where the index is odd, black and white pixels."""
    noise = uniform(fold_in(key, 0), tf.unstack(tf.shape(images)))
    share = uniform(fold_in(key, 1), [tf.shape(images)[0]])
    is_white = tf.cast(noise < per_image(share, images), tf.float32)
    return tf.where(index % 2 == 0, noise, is_white)


def _donors(
    logits_fn: LogitsFunction, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns for each image the nearest of the batch in its target class."""
    with draw_scope(key):
        classes = predicted_classes(logits_fn(images))
    fits = classes[None] == tf.cast(labels, tf.int64)[:, None]
    flat = flattened(images)
    # Up to a constant of each row, the square of the distance.
    size = tf.reduce_sum(tf.square(flat), axis=1)
    distance = size[None] - 2.0 * tf.matmul(flat, flat, transpose_b=True)
    nearest = tf.argmin(tf.where(fits, distance, tf.float32.max), axis=1)
    found = tf.reduce_any(fits, axis=1)
    points = tf.where(per_image(found, images), tf.gather(images, nearest), images)
    return points, found


def to_boundary(
    decide: Decide,
    images: tf.Tensor,
    points: tf.Tensor,
    key: tf.Tensor,
    *,
    norm: str,
    halvings: int | tf.Tensor,
) -> tf.Tensor:
    """Pulls points towards the images by bisection while the prediction holds.

    For "l2" along the straight line; for "linf" the perturbation is cut to smaller and
    smaller cubes, and for "l1" all its values shrink by the same amount, the smallest
    ones to zero.

    Args:
        decide: Returns whether predictions are as wanted.
        images: Clean images in `[0, 1]`.
        points: Points predicted as wanted, of the same shape.
        key: Key for the draws.
        norm: "l2", "linf" or "l1".
        halvings: How often the bracket is halved, a number or a float32 scalar.

    Returns:
        Points predicted as wanted, within `2**-halvings` of the way.

    Example:

    >>> from keras_advdef.core.random_numbers import make_key
    >>> keras_advdef.attacks._decisions.to_boundary(
    ...     lambda x, key: x[:, 0] > 0.5, tf.constant([[0.0]]), tf.constant([[1.0]]),
    ...     make_key(0), norm="l2", halvings=10).numpy().round(2)
    array([[0.5]], dtype=float32)
    """
    perturbation = points - images
    radius = norm_per_image(perturbation, "linf")

    def halve(index: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        low, high, kept = state
        middle = 0.5 * (low + high)
        reach = per_image(middle * radius, images)
        if norm == "l2":
            candidate = images + per_image(middle, images) * perturbation
        elif norm == "linf":
            candidate = images + tf.clip_by_value(perturbation, -reach, reach)
        else:
            amount = per_image(radius, images) - reach
            candidate = images + shrink(perturbation, amount, "l1")
        candidate = tf.clip_by_value(candidate, 0.0, 1.0)
        good = decide(candidate, fold_in(key, index))
        # Keeps the point, not its share: computed again, it might round differently.
        kept = tf.where(per_image(good, images), candidate, kept)
        low, high = tf.where(good, low, middle), tf.where(good, middle, high)
        return index + 1, low, high, kept

    return tf.while_loop(
        lambda index, *state: tf.cast(index, tf.float32) < halvings,
        halve,
        (tf.constant(0), tf.zeros_like(radius), tf.ones_like(radius), points),
        parallel_iterations=1,
    )[3]
