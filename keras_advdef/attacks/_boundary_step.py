"""Steps to the boundary of the linearized model and a little past it."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._slopes import slopes
from keras_advdef.core.image_layout import flattened
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

# Value `(batch,)` at some points, and gradient there, of what is zero on a boundary.
Plane = tuple[tf.Tensor, tf.Tensor]
_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
_MOST_TOWARDS_IMAGE, _OVERSHOOT = 0.1, 1.05
# Newton's method needs a few steps; each brings at least one more pixel to its bound.
_MOST_STEPS = 50
# The last step begins within this share of the way.
_CLOSE = 1e-5
# Large enough to bring every pixel to its bound, and finite: zero times it is zero.
_FURTHEST = 1e30
# 26 halvings bring the l1 threshold to float32 precision.
_BISECTIONS = 26


def mean_logits(
    logits_fn: LogitsFunction, images: tf.Tensor, key: tf.Tensor, *, samples: int
) -> tf.Tensor:
    """Returns logits, averaged over draws.

    Args:
        logits_fn: The attacked model.
        images: Images in `[0, 1]`.
        key: Key for the draws of a random model.
        samples: Number of draws.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(model)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> keras_advdef.attacks._boundary_step.mean_logits(
    ...     logits_fn, tf.zeros((3, 2)), key, samples=1).shape
    TensorShape([3, 2])
    """

    def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
        with draw_scope(fold_in(key, sample)):
            return (logits_fn(images),)

    return mean_over_draws(draw, samples)[0]


def linearized_boundary(
    logits_fn: LogitsFunction,
    points: tf.Tensor,
    ahead: Callable[[tf.Tensor], tf.Tensor],
    key: tf.Tensor,
    *,
    samples: int,
    norm: str,
) -> Plane:
    """Returns the nearest decision boundary of the model linearized at some points.

    Args:
        logits_fn: The attacked model.
        points: Points in `[0, 1]`, `(batch, ...)`.
        ahead: Function of the logits that returns what is zero on each boundary,
            `(batch, count)`; each takes a backward pass.
        key: Key for the draws of a random model.
        samples: Draws over which values and gradients are averaged.
        norm: "linf", "l2" or "l1", in which distances are measured.

    Returns:
        The value `(batch,)` at the points, and the gradient there.

    Example:

    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(lambda x: x)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> value, weights = keras_advdef.attacks._boundary_step.linearized_boundary(
    ...     logits_fn, tf.constant([[0.6, 0.4]]), lambda z: z[:, 1:] - z[:, :1], key,
    ...     samples=1, norm="l2")
    >>> round(float(value[0]), 4), weights.numpy().tolist()
    (-0.2, [[-1.0, 1.0]])
    """

    def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
        with draw_scope(fold_in(key, sample)):
            values, gradients = slopes(
                lambda images: ahead(logits_fn(images)),
                points,
                scale=logits_fn.gradient_scale,
            )
        return values, *gradients

    values, *gradients = mean_over_draws(draw, samples)
    return nearest_plane(values, gradients, norm)


def nearest_plane(
    values: tf.Tensor, gradients: Sequence[tf.Tensor], norm: str
) -> Plane:
    """Returns the nearest of several hyperplanes, for each image.

    Args:
        values: What is zero on each boundary, `(batch, count)`.
        gradients: Their gradients, `count` tensors of the images' shape.
        norm: "linf", "l2" or "l1", in which distances are measured.

    Returns:
        The value `(batch,)` and the gradient of that boundary. A zero gradient is
        chosen only if all are zero.

    Example:

    >>> gradients = tf.constant([[1.0, 0.0]]), tf.constant([[4.0, 4.0]])
    >>> value, weights = keras_advdef.attacks._boundary_step.nearest_plane(
    ...     tf.constant([[-1.0, -2.0]]), gradients, "l2")
    >>> value.numpy().tolist(), weights.numpy().tolist()
    ([-2.0], [[4.0, 4.0]])
    """
    value, weights = values[:, 0], gradients[0]
    distance = plane_distance(value, weights, norm)
    for index, gradient in enumerate(gradients[1:], 1):
        other = plane_distance(values[:, index], gradient, norm)
        is_nearer = other < distance
        value = tf.where(is_nearer, values[:, index], value)
        weights = tf.where(per_image(is_nearer, weights), gradient, weights)
        distance = tf.minimum(other, distance)
    return value, weights


def plane_distance(value: tf.Tensor, weights: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns how far away the hyperplane is where a linearized function is zero.

    Args:
        value: Values `(batch,)` of the function.
        weights: Its gradients, of the images' shape.
        norm: "linf", "l2" or "l1", in which distances are measured.

    Returns:
        Distances `(batch,)`, infinite where the gradient is zero.

    Example:

    >>> float(keras_advdef.attacks._boundary_step.plane_distance(
    ...     tf.constant([-1.0]), tf.constant([[1.5, 0.5]]), "linf")[0])
    0.5
    """
    slope = norm_per_image(weights, _DUAL[norm])
    return tf.where(slope > 0, tf.abs(value) / slope, np.inf)


def step_past(
    plane: Plane, iterate: tf.Tensor, images: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the next point: past the hyperplane, and a little nearer to the image.

    Let `d1` and `d2` be the shortest moves of iterate and image to the hyperplane
    within the box. The next point is
    `(1 - a) (iterate + 1.05 d1) + a (image + 1.05 d2)`, clipped, where
    `a = min(|d1| / (|d1| + |d2|), 0.1)` (Croce and Hein 2020).

    Args:
        plane: Value and gradient at the iterate.
        iterate: Points in `[0, 1]`, shape `(batch, ...)`.
        images: The clean images, same shape.
        norm: "linf", "l2" or "l1".

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> image = tf.constant([[0.5, 0.5]])
    >>> plane = tf.constant([-0.2]), tf.constant([[1.0, 0.0]])
    >>> keras_advdef.attacks._boundary_step.step_past(
    ...     plane, image, image, "l2").numpy().round(4)
    array([[0.71, 0.5 ]], dtype=float32)
    """
    value, weights = plane
    axes = list(range(1, images.shape.rank))
    offset = value - tf.reduce_sum(weights * iterate, axes)
    points = tf.concat([iterate, images], 0)
    # Both at once: the loop inside takes as many turns as the slower one needs.
    twice = tf.concat([weights, weights], 0), tf.concat([offset, offset], 0)
    ways = project_on_hyperplane(points, *twice, norm) - points
    near, far = tf.split(norm_per_image(ways, norm), 2)
    share = tf.minimum(tf.math.divide_no_nan(near, near + far), _MOST_TOWARDS_IMAGE)
    from_iterate, from_image = tf.split(points + _OVERSHOOT * ways, 2)
    share = per_image(share, images)
    mixed = (1.0 - share) * from_iterate + share * from_image
    # A plane that is not finite gives no direction.
    mixed = tf.where(tf.math.is_finite(mixed), mixed, iterate)
    return tf.clip_by_value(mixed, 0.0, 1.0)


def project_on_hyperplane(
    points: tf.Tensor, weights: tf.Tensor, offsets: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the nearest points `z` in the box with `<weights, z> + offset = 0`.

    Where the hyperplane misses the box, every pixel with a nonzero weight ends at the
    bound nearest to the hyperplane. Exact up to rounding (Croce and Hein 2020).

    Args:
        points: Float32 tensor of shape `(batch, ...)` in `[0, 1]`.
        weights: Normal of each hyperplane, same shape.
        offsets: Tensor of shape `(batch,)`.
        norm: "linf", "l2" or "l1", the distance that is smallest.

    Returns:
        Float32 tensor of the shape of `points`. Weights of zero move nothing.

    Example:

    >>> project = keras_advdef.attacks._boundary_step.project_on_hyperplane
    >>> point, normal = tf.constant([[0.5, 0.5]]), tf.constant([[4.0, 3.0]])
    >>> for norm in ("linf", "l2", "l1"):
    ...     print(project(point, normal, tf.constant([-4.5]), norm).numpy().round(4))
    [[0.6429 0.6429]]
    [[0.66 0.62]]
    [[0.75 0.5 ]]
    """
    flat = flattened(points)
    weights = tf.reshape(weights, tf.shape(flat))
    value = tf.reduce_sum(weights * flat, 1, keepdims=True) + offsets[:, tf.newaxis]
    # The squares of tiny weights would underflow.
    largest = tf.reduce_max(tf.abs(weights), 1, keepdims=True)
    size = tf.math.divide_no_nan(tf.abs(weights), largest)
    way = tf.math.divide_no_nan(tf.abs(value), largest)
    direction = -tf.sign(value) * tf.sign(weights)
    room = tf.where(direction > 0, 1.0 - flat, flat)
    if norm == "l1":
        length = _greedy_lengths(size, room, way)
    else:
        slopes = size if norm == "linf" else tf.square(size)
        reach = _newton(slopes, size * room, way)
        length = tf.minimum(reach if norm == "linf" else reach * size, room)
    moved = tf.clip_by_value(flat + direction * length, 0.0, 1.0)
    return tf.reshape(moved, tf.shape(points))


def _newton(slopes: tf.Tensor, bounds: tf.Tensor, way: tf.Tensor) -> tf.Tensor:
    """Solves `sum min(t * slopes, bounds) = way` for t, `(batch, 1)`.

    The sum is concave and piecewise linear, so from zero Newton's steps never pass the
    solution and end on its piece; without a solution t becomes huge.
    """

    def step(reach: tf.Tensor, going: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gains = tf.minimum(reach * slopes, bounds)
        missing = way - tf.reduce_sum(gains, 1, keepdims=True)
        free = tf.where(gains < bounds, slopes, 0.0)
        slope = tf.reduce_sum(free, 1, keepdims=True)
        further = tf.where(slope > 0, reach + missing / slope, _FURTHEST)
        further = tf.clip_by_value(further, 0.0, _FURTHEST)
        return tf.where(going, further, reach), going & (missing > _CLOSE * way)

    return tf.while_loop(
        lambda reach, going: tf.reduce_any(going & (reach < _FURTHEST)),
        step,
        (tf.zeros_like(way), way > 0),
        parallel_iterations=1,
        maximum_iterations=_MOST_STEPS,
    )[0]


def _greedy_lengths(size: tf.Tensor, room: tf.Tensor, way: tf.Tensor) -> tf.Tensor:
    """Fills the pixels of the largest weights, the last of them only in part.

    Bisection finds the weight above which pixels are filled, which takes half the time
    of a sort; weights between its bounds are equal up to rounding.
    """
    gains = size * room

    def above(threshold: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(size > threshold, gains, 0.0), 1, keepdims=True)

    def halve(
        index: int | tf.Tensor, bracket: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        del index
        low, high = bracket
        middle = 0.5 * (low + high)
        enough = above(middle) >= way
        return tf.where(enough, middle, low), tf.where(enough, high, middle)

    bracket = tf.zeros_like(way), tf.ones_like(way)
    low, high = fixed_loop(halve, bracket, _BISECTIONS, unroll=False)
    filled = above(high)
    share = tf.math.divide_no_nan(way - filled, above(low) - filled)
    share = tf.clip_by_value(share, 0.0, 1.0)
    return room * tf.where(size > high, 1.0, tf.where(size > low, share, 0.0))
