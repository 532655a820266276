"""Where an attack of gradient steps begins."""

import tensorflow as tf

from keras_advdef.core.norms import project, random_point, random_surface_point
from keras_advdef.core.random_numbers import normal

STARTS = (True, False, "gaussian", "surface", "unclipped")
# TRADES starts from this much noise: at the clean image its loss has no gradient.
_GAUSSIAN_STDDEV = 0.001


def first_iterate(
    start: bool | str,
    images: tf.Tensor,
    epsilon: tf.Tensor,
    *,
    norm: str,
    key: tf.Tensor,
) -> tf.Tensor:
    """Returns the first point of an attack, in the ball and but for one in `[0, 1]`.

    Args:
        start: True for uniform in the ball, False for the image itself, "gaussian" for
            a normal perturbation of standard deviation 0.001, "surface" for the surface
            of the ball, "unclipped" for uniform in the ball, outside `[0, 1]` too.
        images: Clean images in `[0, 1]`, shape `(batch, ...)`.
        epsilon: Radius.
        norm: "linf", "l2" or "l1".
        key: Int64 tensor of shape `(2,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> images = tf.fill((1, 2, 2, 1), 0.5)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> points = keras_advdef.attacks._first_iterate.first_iterate(
    ...     False, images, tf.constant(0.1), norm="linf", key=key)
    >>> bool(tf.reduce_all(points == images))
    True
    """
    if start is False:
        return images
    if start is True:
        return random_point(key, images, epsilon, norm)
    if start == "unclipped":
        return random_point(key, images, epsilon, norm, clip=False)
    if start == "surface":
        return random_surface_point(key, images, epsilon, norm)
    noise = _GAUSSIAN_STDDEV * normal(key, tf.unstack(tf.shape(images)))
    return project(images + noise, images, epsilon, norm)
