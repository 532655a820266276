"""The patches of which Square makes perturbations in l2 and l1."""

import tensorflow as tf

from keras_advdef.core.image_layout import value_count


def bumps(
    down: tf.Tensor,
    along: tf.Tensor,
    *,
    side: tf.Tensor,
    is_turned: tf.Tensor,
    norm: str = "l2",
) -> tf.Tensor:
    """Returns images that hold a patch, or its transpose, and zeros around it.

    A patch consists of two bumps of equal norm, the upper one positive and the lower
    one negative, with a norm of one together. At Chebyshev distance d from its
    center, a bump is as high as the sum of `1 / j**2` over `j > d`, up to the square's
    edge (Andriushchenko et al. 2020).

    A height falls with the larger of two distances, so it is the smaller of the heights
    for each alone, and no table of pixels is needed.

    Args:
        down: Each row's place in the patch, outside too, `(batch, rows)`.
        along: Each column's place in the patch, `(batch, cols)`.
        side: Sides of the patches as floats, `(batch, 1)` or `(1, 1)`.
        is_turned: Whether to transpose, `(batch, 1)`.
        norm: "l2" or "l1".

    Returns:
        Float32 tensor of shape `(batch, rows, cols, 1)`.

    Example:

    >>> places = tf.constant([[0.0, 1.0, 2.0]])
    >>> keras_advdef.attacks._bumps.bumps(
    ...     places, places, side=tf.constant([[3.0]]), is_turned=tf.constant([[False]])
    ... )[0, :, :, 0].numpy().round(2)
    array([[ 0.14,  0.68,  0.14],
           [-0.13, -0.13, -0.13],
           [-0.13, -0.65, -0.13]], dtype=float32)
    """
    sums = _sums_of_terms(tf.maximum(tf.shape(down)[1], tf.shape(along)[1]))
    factors = _factors(side, sums, norm)
    height, factor = _profile(down, side, (sums, *factors), ~is_turned)
    other_height, other_factor = _profile(along, side, (sums, *factors), is_turned)
    height = tf.minimum(height[:, :, None], other_height[:, None])
    return (height * factor[:, :, None] * other_factor[:, None])[..., None]


def _sums_of_terms(length: tf.Tensor) -> tf.Tensor:
    """Returns the sums of the first 0, 1, ... of the terms `1 / j**2`."""
    count = tf.cast(length, tf.float64) + 1.0
    terms = 1.0 / tf.square(tf.range(1.0, count + 1.0, dtype=tf.float64))
    return tf.cast(tf.cumsum(tf.pad(terms, [[1, 0]])), tf.float32)


def _factors(
    side: tf.Tensor, sums: tf.Tensor, norm: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what makes both bumps equally long and the patch's norm one.

    Returns:
        The upper bump's factor, not negative and 0 where it has no rows, and the lower
        one's, which is negative; of the shape of `side`.
    """
    upper = tf.floor(0.5 * side)
    masses = [_bump_mass(rows, side, sums, norm) for rows in (upper, side - upper)]
    halves = tf.add_n([tf.cast(each > 0.0, tf.float32) for each in masses])
    up, down = (tf.math.divide_no_nan(1.0, norm_of(halves * m, norm)) for m in masses)
    return up, -down


def _bump_mass(
    rows: tf.Tensor, cols: tf.Tensor, sums: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the mass of a bump, ring by ring around its center."""
    distance = tf.range(value_count(sums[None]))[None]
    farthest = tf.floor(0.5 * cols)

    def within(length: tf.Tensor) -> tf.Tensor:
        before = tf.floor(0.5 * length)
        after = length - before - 1.0
        return tf.minimum(before, distance) + tf.minimum(after, distance) + 1.0

    covered = within(rows) * within(cols)
    ring = covered - tf.pad(covered[:, :-1], [[0, 0], [1, 0]])
    height = tf.maximum(_look_up(sums, farthest + 1.0) - sums, 0.0)
    return tf.reduce_sum(ring * mass_of(height, norm), axis=1, keepdims=True)


def mass_of(values: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns what adds up over pixels: squares in l2, sizes in l1.

    Args:
        values: A perturbation.
        norm: "l2" or "l1".

    Example:

    >>> from keras_advdef.attacks._bumps import mass_of
    >>> [mass_of(tf.constant([-3.0]), norm).numpy().item() for norm in ("l2", "l1")]
    [9.0, 3.0]
    """
    return tf.square(values) if norm == "l2" else tf.abs(values)


def norm_of(mass: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the norm of a perturbation of some mass.

    Args:
        mass: Sums of what `mass_of` returns.
        norm: "l2" or "l1".

    Example:

    >>> from keras_advdef.attacks._bumps import norm_of
    >>> [norm_of(tf.constant(9.0), norm).numpy().item() for norm in ("l2", "l1")]
    [3.0, 9.0]
    """
    return tf.sqrt(mass) if norm == "l2" else mass


def _profile(
    places: tf.Tensor,
    side: tf.Tensor,
    known: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    is_split: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns heights along one axis, and the factor of the bump each pixel is in."""
    sums, *factors = known
    middle = tf.floor(0.5 * side)
    length = tf.where(is_split, middle, side)
    is_first = places < length
    second = length + tf.floor(0.5 * (side - length))
    center = tf.where(is_first, tf.floor(0.5 * length), second)
    distance = tf.minimum(tf.abs(places - center), middle)
    # The terms up to the edge less those up to the distance.
    height = _look_up(sums, middle + 1.0) - _look_up(sums, distance)
    is_inside = (places >= 0.0) & (places < side)
    factor = tf.where(is_first, *factors)
    return tf.where(is_inside, height, 0.0), tf.where(is_split, factor, 1.0)


def _look_up(table: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    return tf.gather(table, tf.cast(places, tf.int32))
