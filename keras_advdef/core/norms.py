"""Geometry of the l1, l2 and linf balls, intersected with the pixel box `[0, 1]`.

All functions take float32 tensors with a batch axis first; `epsilon` is a scalar or has
shape `(batch,)`.
"""

import tensorflow as tf

from keras_advdef.core.image_layout import flattened, value_count
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in, normal, uniform

_Bracket = tuple[tf.Tensor, tf.Tensor]

NORMS = ("linf", "l2", "l1")

_TINY = 1e-12
# 26 halvings bring the l1 threshold to float32 precision.
_BISECTIONS = 26
# An l1 step moves one coordinate in a hundred, like SLIDE (Tramer and Boneh 2019). The
# single steepest pixel would saturate at once.
_L1_SHARE = 100


def per_image(value: float | tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Reshapes a scalar or `(batch,)` tensor so that it broadcasts over images.

    Args:
        value: Number, or float32 or boolean tensor.
        images: Tensor to broadcast with.

    Returns:
        Tensor of rank zero or of the rank of `images`.

    Example:

    >>> keras_advdef.core.norms.per_image(tf.ones(3), tf.ones((3, 4, 4, 1))).shape
    TensorShape([3, 1, 1, 1])
    """
    is_tensor = tf.is_tensor(value)
    tensor: tf.Tensor = value if is_tensor else tf.convert_to_tensor(value, tf.float32)
    if tensor.shape.rank == 0:
        return tensor
    return tf.reshape(tensor, [-1] + [1] * (images.shape.rank - 1))


def _axes(images: tf.Tensor) -> list[int]:
    return list(range(1, images.shape.rank))


def norm_per_image(perturbation: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the norm of each image of a batch.

    Args:
        perturbation: Tensor of shape `(batch, ...)`.
        norm: "linf", "l2", "l1", or "l0" for the number of nonzero values.

    Returns:
        Tensor of shape `(batch,)`, in the units of `perturbation`.

    Example:

    >>> ones = tf.ones((1, 2, 2, 1))
    >>> [float(keras_advdef.core.norms.norm_per_image(ones, n)[0])
    ...  for n in ("linf", "l2", "l1")]
    [1.0, 2.0, 4.0]
    """
    axes = _axes(perturbation)
    if norm == "linf":
        return tf.reduce_max(tf.abs(perturbation), axes)
    if norm == "l2":
        return tf.sqrt(tf.reduce_sum(tf.square(perturbation), axes))
    if norm == "l0":
        return tf.reduce_sum(tf.cast(perturbation != 0, perturbation.dtype), axes)
    return tf.reduce_sum(tf.abs(perturbation), axes)


def project(
    candidate: tf.Tensor, images: tf.Tensor, epsilon: float | tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the nearest point to `candidate` in the ball and in `[0, 1]`.

    For "linf" and "l1" it is the exact Euclidean projection onto the intersection. For
    "l2" it projects onto the ball, then onto the box, which stays in the ball.

    Args:
        candidate: Tensor of shape `(batch, ...)`.
        images: Center of the ball, in `[0, 1]`, same shape.
        epsilon: Radius.
        norm: "linf", "l2" or "l1".

    Returns:
        Tensor of the same shape.

    Example:

    >>> center = tf.zeros((1, 2))
    >>> project = keras_advdef.core.norms.project
    >>> project(tf.constant([[3.0, 4.0]]), center, 0.5, "l2").numpy().round(6)
    array([[0.3, 0.4]], dtype=float32)
    """
    epsilon = per_image(epsilon, images)
    if norm == "linf":
        low = tf.maximum(images - epsilon, 0.0)
        return tf.clip_by_value(candidate, low, tf.minimum(images + epsilon, 1.0))
    perturbation = candidate - images
    if norm == "l2":
        size = per_image(norm_per_image(perturbation, "l2"), images)
        shrink = tf.minimum(1.0, epsilon / tf.maximum(size, _TINY))
        return tf.clip_by_value(images + perturbation * shrink, 0.0, 1.0)
    return images + _project_l1(perturbation, -images, 1.0 - images, epsilon)


def _project_l1(
    perturbation: tf.Tensor, low: tf.Tensor, high: tf.Tensor, epsilon: tf.Tensor
) -> tf.Tensor:
    """Soft-thresholds and clips, with a threshold found by bisection.

    The box contains zero, so the projection onto the intersection is the clipped soft
    threshold with l1 norm epsilon.
    """

    def shrunk(threshold: tf.Tensor) -> tf.Tensor:
        size = tf.maximum(tf.abs(perturbation) - threshold, 0.0)
        return tf.clip_by_value(tf.sign(perturbation) * size, low, high)

    axes = _axes(perturbation)
    below = tf.zeros_like(tf.reduce_sum(perturbation, axes, keepdims=True))
    above = tf.reduce_max(tf.abs(perturbation), axes, keepdims=True)
    fits = tf.reduce_sum(tf.abs(shrunk(below)), axes, keepdims=True) <= epsilon

    def halve(index: object, bracket: _Bracket) -> _Bracket:
        del index
        below, above = bracket
        middle = 0.5 * (below + above)
        small = tf.reduce_sum(tf.abs(shrunk(middle)), axes, keepdims=True) <= epsilon
        return tf.where(small, below, middle), tf.where(small, middle, above)

    _, above = fixed_loop(halve, (below, above), _BISECTIONS)
    # `above` is the end of the bracket that certainly fits.
    return shrunk(tf.where(fits, 0.0, above))


def shrink(
    perturbation: tf.Tensor,
    amount: float | tf.Tensor,
    norm: str,
    *,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Trades distance for a smaller norm: the proximal operator of the norm.

    Minimizes `amount * norm(z) + 0.5 * sum(weights * (z - perturbation)**2)` over z:
    for "l1" each value moves towards zero by `amount / weights`, for "linf" all values
    are cut at one level. Exact up to rounding.

    Args:
        perturbation: Tensor of shape `(batch, ...)`.
        amount: Number of at least 0, a scalar or `(batch,)`.
        norm: "linf" or "l1".
        weights: Positive tensor of the same shape; `None` for ones.

    Returns:
        Tensor of the same shape.

    Example:

    >>> values = tf.constant([[3.0, -1.0, 0.5]])
    >>> for norm in ("l1", "linf"):
    ...     print(keras_advdef.core.norms.shrink(values, 1.0, norm).numpy().round(4))
    [[ 2. -0.  0.]]
    [[ 2.  -1.   0.5]]
    """
    weights = tf.ones_like(perturbation) if weights is None else weights
    amount = per_image(amount, perturbation)
    size = tf.abs(perturbation)
    if norm == "l1":
        smaller = tf.maximum(size - amount / weights, 0.0)
        return tf.sign(perturbation) * smaller
    axes = _axes(perturbation)

    def halve(index: object, bracket: _Bracket) -> _Bracket:
        del index
        below, above = bracket
        level = 0.5 * (below + above)
        cut = tf.reduce_sum(
            weights * tf.maximum(size - level, 0.0), axes, keepdims=True
        )
        low = cut <= amount
        return tf.where(low, below, level), tf.where(low, level, above)

    above = tf.reduce_max(size, axes, keepdims=True)
    bracket = (tf.zeros_like(above), above)
    level = fixed_loop(halve, bracket, _BISECTIONS, unroll=False)[1]
    # What little is left above the level of a large amount is none.
    all_of_it = tf.reduce_sum(weights * size, axes, keepdims=True) <= amount
    level = tf.where(all_of_it, 0.0, level)
    return tf.clip_by_value(perturbation, -level, level)


def keep_largest(perturbation: tf.Tensor, count: float | tf.Tensor) -> tf.Tensor:
    """Projects onto the "l0" ball: keeps the largest values and sets others to zero.

    Args:
        perturbation: Tensor of shape `(batch, ...)`.
        count: How many values to keep, whole numbers, a scalar or `(batch,)`. Of equal
            ones the first are kept.

    Returns:
        Tensor of the same shape.

    Example:

    >>> keras_advdef.core.norms.keep_largest(
    ...     tf.constant([[0.1, -0.4, 0.2]]), 2).numpy()
    array([[ 0. , -0.4,  0.2]], dtype=float32)
    """
    flat = flattened(perturbation)
    values = flat.shape[1] or tf.shape(flat)[1]
    order = tf.math.top_k(tf.abs(flat), values).indices
    # Sorted again, in floats: no GPU sorts integers.
    rank = tf.math.top_k(-tf.cast(order, tf.float32), values).indices
    kept = tf.cast(rank, tf.float32) < per_image(count, flat)
    return tf.where(tf.reshape(kept, tf.shape(perturbation)), perturbation, 0.0)


def steepest_step(gradient: tf.Tensor, images: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the direction of unit norm in which a loss grows fastest.

    "linf": the sign of the gradient. "l2": the gradient, normalised. "l1": its largest
    hundredth among the coordinates that can still move, normalised. A zero gradient
    gives a zero step.

    Args:
        gradient: Gradient of the loss, shape `(batch, ...)`.
        images: Images it was taken at, in `[0, 1]`; show which pixels can still move.
        norm: "linf", "l2" or "l1".

    Returns:
        Tensor of the same shape.

    Example:

    >>> gradient = tf.constant([[3.0, -4.0]])
    >>> step = keras_advdef.core.norms.steepest_step
    >>> step(gradient, tf.fill((1, 2), 0.5), "l2").numpy().round(6)
    array([[ 0.6, -0.8]], dtype=float32)
    """
    if norm == "linf":
        return tf.sign(gradient)
    if norm == "l2":
        return _unit(gradient, norm)
    stuck = ((gradient > 0) & (images >= 1)) | ((gradient < 0) & (images <= 0))
    gradient = tf.where(stuck, 0.0, gradient)
    flat = flattened(tf.abs(gradient))
    count = tf.maximum(tf.shape(flat)[1] // _L1_SHARE, 1)
    least = per_image(tf.math.top_k(flat, count).values[:, -1], gradient)
    return _unit(tf.where(tf.abs(gradient) >= least, gradient, 0.0), norm)


def _unit(vectors: tf.Tensor, norm: str) -> tf.Tensor:
    """Scales each vector to norm one; zero stays zero."""
    # Squared gradients of a saturated model would underflow.
    largest = per_image(norm_per_image(vectors, "linf"), vectors)
    vectors = tf.math.divide_no_nan(vectors, largest)
    size = per_image(norm_per_image(vectors, norm), vectors)
    return tf.math.divide_no_nan(vectors, size)


def random_point(
    key: tf.Tensor,
    images: tf.Tensor,
    epsilon: float | tf.Tensor,
    norm: str,
    *,
    clip: bool = True,
) -> tf.Tensor:
    """Draws points uniformly from the balls around images, clipped to `[0, 1]`.

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Centers, shape `(batch, ...)`.
        epsilon: Radius.
        norm: "linf", "l2" or "l1".
        clip: Whether they are clipped.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((2, 8, 8, 1), 0.5)
    >>> points = keras_advdef.core.norms.random_point(key, images, 0.1, "linf")
    >>> bool(tf.reduce_all(abs(points - images) <= 0.1))
    True
    """
    epsilon = per_image(epsilon, images)
    if norm == "linf":
        noise = 2.0 * uniform(key, tf.unstack(tf.shape(images))) - 1.0
        points = images + epsilon * noise
    else:
        count = tf.shape(images)[0]
        share = 1.0 / value_count(images)
        radius = per_image(uniform(fold_in(key, 1), [count]) ** share, images)
        direction = _random_direction(fold_in(key, 0), images, norm)
        points = images + epsilon * radius * direction
    return tf.clip_by_value(points, 0.0, 1.0) if clip else points


def random_surface_point(
    key: tf.Tensor, images: tf.Tensor, epsilon: float | tf.Tensor, norm: str
) -> tf.Tensor:
    """Draws points on the surface of the balls around images, clipped to `[0, 1]`.

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Centers, shape `(batch, ...)`.
        epsilon: Radius.
        norm: "linf", "l2" or "l1".

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 8, 8, 1), 0.5)
    >>> norms = keras_advdef.core.norms
    >>> points = norms.random_surface_point(key, images, 0.5, "l2")
    >>> round(float(norms.norm_per_image(points - images, "l2")[0]), 5)
    0.5
    """
    direction = _random_direction(key, images, norm)
    candidate = images + per_image(epsilon, images) * direction
    return tf.clip_by_value(candidate, 0.0, 1.0)


def _random_direction(key: tf.Tensor, images: tf.Tensor, norm: str) -> tf.Tensor:
    """Draws vectors of unit norm: normals for l2, Laplace for l1, uniforms for linf."""
    shape = tf.unstack(tf.shape(images))
    noise = normal(key, shape) if norm == "l2" else 2.0 * uniform(key, shape) - 1.0
    if norm == "l1":
        # The inverse distribution function of the Laplace distribution.
        tail = tf.maximum(1.0 - tf.abs(noise), _TINY)
        noise = -tf.sign(noise) * tf.math.log(tail)
    return _unit(noise, norm)
