"""Proposals of the Square attack: where its squares lie and what they hold."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.square_patches import bump_factors, bumps, patch
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.random_numbers import uniform

# The first squares cover this share of the image.
_FIRST_SHARE = 0.8
# The share is halved after these proposals, however many are allowed.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SHORTEST_PATCH = 3
_TILES = 5
_TINY = 1e-12


def side_lengths(rows: int, cols: int, norm: str) -> list[int]:
    """Returns the side of the squares at each stage, from the first to the last.

    Args:
        rows: Rows of an image.
        cols: Its columns.
        norm: "linf", or "l2" for odd sides of at least 3.

    Returns:
        A list of ten integers, none longer than the image.

    Example:

    >>> keras_advdef.attacks.square_proposals.side_lengths(28, 28, "linf")[:8]
    [25, 18, 13, 9, 6, 4, 3, 2]
    """
    longest = min(rows, cols)
    stages = range(len(_HALVED_AFTER) + 1)
    shares = [_FIRST_SHARE / 2**stage for stage in stages]
    sides = [max(round(math.sqrt(share * rows * cols)), 1) for share in shares]
    if norm == "l2":
        sides = [max(side, _SHORTEST_PATCH) | 1 for side in sides]
        longest = (longest - 1) | 1
    return [min(side, longest) for side in sides]


def at_stage(values: Sequence[float], taken: tf.Tensor) -> tf.Tensor:
    """Returns the value of the stage that each image has reached.

    Args:
        values: One number for each stage.
        taken: Proposals made before, float32, a scalar or `(batch,)`.

    Returns:
        Float32 tensor of shape `(1, 1)` or `(batch, 1)`.

    Example:

    >>> keras_advdef.attacks.square_proposals.at_stage(
    ...     range(10), tf.constant([0.0, 10.0, 11.0, 9999.0])).numpy().ravel()
    array([0., 0., 1., 9.], dtype=float32)
    """
    table = np.asarray(values, "float32")
    last = np.asarray(_HALVED_AFTER, "float32")
    passed = tf.cast(tf.reshape(taken, [-1, 1]) > last, tf.float32)
    return table[0] + tf.reduce_sum(passed * np.diff(table), axis=1, keepdims=True)


def stripes(key: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Moves each column and channel by plus or minus epsilon, the start for "linf".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        epsilon: Radius, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 4, 4, 1), 0.5)
    >>> striped = keras_advdef.attacks.square_proposals.stripes(key, images, 0.25)
    >>> sorted(set(striped.numpy().ravel().tolist()))
    [0.25, 0.75]
    """
    cols, channels = images.shape[2:]
    sign = _signs(uniform(key, [tf.shape(images)[0], 1, cols, channels]))
    return tf.clip_by_value(images + per_image(epsilon, images) * sign, 0.0, 1.0)


def recolored_square(
    key: tf.Tensor,
    images: tf.Tensor,
    best: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
) -> tf.Tensor:
    """Moves a square to plus or minus epsilon in each channel, the step for "linf".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        best: What to change, in the ball around `images`.
        epsilon: Radius, a scalar or `(batch,)`.
        taken: Proposals made before, float32, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 8, 8, 1), 0.5)
    >>> moved = keras_advdef.attacks.square_proposals.recolored_square(
    ...     key, images, images, epsilon=0.25, taken=tf.constant(0.0))
    >>> int(tf.reduce_sum(tf.cast(moved != images, "int32")))
    49
    """
    rows, cols, channels = images.shape[1:]
    side = at_stage(side_lengths(rows, cols, "linf"), taken)
    draws = uniform(key, [tf.shape(images)[0], 2 + channels])
    down, along = draws[:, 0:1], draws[:, 1:2]
    window = _cross(
        _inside(_offsets(down, side, rows), side),
        _inside(_offsets(along, side, cols), side),
    )
    step = per_image(epsilon, images) * _signs(draws[:, None, None, 2:])
    # From inside the ball, a step of twice epsilon and a clip end here too.
    return tf.where(window, tf.clip_by_value(images + step, 0.0, 1.0), best)


def tiles(key: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Covers images by a five by five grid of patches, the start for "l2".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        epsilon: Radius, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 10, 10, 1), 0.5)
    >>> moved = keras_advdef.attacks.square_proposals.tiles(key, images, 0.5)
    >>> round(float(tf.norm(moved - images)), 5)
    0.5
    """
    rows, cols, channels = images.shape[1:]
    side = max(min(rows, cols) // _TILES, 1)
    down, along = rows // side, cols // side
    draws = uniform(key, [tf.shape(images)[0], down, along, 1 + channels])
    draws = tf.repeat(tf.repeat(draws, side, axis=1), side, axis=2)
    upright = np.tile(patch(side), (down, along))[:, :, None].astype("float32")
    turned = np.tile(patch(side).T, (down, along))[:, :, None].astype("float32")
    filled = tf.where(draws[..., :1] < 0.5, turned, upright) * _signs(draws[..., 1:])
    gaps = [rows - down * side, cols - along * side]
    margins = [[gap // 2, gap - gap // 2] for gap in gaps]
    filled = tf.pad(filled, [[0, 0], *margins, [0, 0]])
    return _to_radius(images, filled, epsilon)


def moved_mass(
    key: tf.Tensor,
    images: tf.Tensor,
    best: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
) -> tf.Tensor:
    """Moves what a window holds to a patch in another one, the step for "l2".

    The first window becomes its own perturbation plus a random patch, the second one
    is emptied, and the first gets the norm of both, and what the box cut off.

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        best: What to change, in the ball around `images`.
        epsilon: Radius, a scalar or `(batch,)`.
        taken: Proposals made before, float32, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 8, 8, 1), 0.5)
    >>> moved = keras_advdef.attacks.square_proposals.moved_mass(
    ...     key, images, images, epsilon=0.5, taken=tf.constant(0.0))
    >>> round(float(tf.norm(moved - images)), 5)
    0.5
    """
    rows, cols, channels = images.shape[1:]
    sides = side_lengths(rows, cols, "l2")
    side = at_stage(sides, taken)
    draws = uniform(key, [tf.shape(images)[0], 5 + channels])
    down, along = (
        _offsets(draws[:, i : i + 1], side, length)
        for i, length in enumerate((rows, cols))
    )
    emptied = _cross(
        _inside(_offsets(draws[:, 2:3], side, rows), side),
        _inside(_offsets(draws[:, 3:4], side, cols), side),
    )
    window = _cross(_inside(down, side), _inside(along, side))
    factors = zip(*map(bump_factors, sides), strict=True)
    filling = bumps(
        down,
        along,
        side=side,
        factors=[at_stage(each, taken) for each in factors],
        is_turned=draws[:, 4:5] < 0.5,
    )
    perturbation = best - images
    squares = tf.square(perturbation)
    room = per_image(epsilon, images) ** 2 - _total(squares, axes=(1, 2, 3))
    room = tf.maximum(room, 0.0) / channels
    both = _total(tf.where(window | emptied, squares, 0.0))
    own = tf.sqrt(_total(tf.where(window, squares, 0.0)))
    mixed = filling * _signs(draws[:, None, None, 5:])
    mixed += tf.where(window, perturbation, 0.0) / (own + _TINY)
    size = tf.maximum(tf.sqrt(_total(tf.square(mixed))), _TINY)
    mixed *= tf.sqrt(room + both) / size
    rest = tf.where(window | emptied, 0.0, perturbation)
    return _to_radius(images, rest + mixed, epsilon)


def _signs(draws: tf.Tensor) -> tf.Tensor:
    return tf.where(draws < 0.5, -1.0, 1.0)


def _offsets(draws: tf.Tensor, side: tf.Tensor, length: int) -> tf.Tensor:
    """Returns each pixel's place in a window put at random, `(batch, length)`."""
    first = tf.floor(draws * (length - side + 1.0))
    return np.arange(length, dtype="float32") - first


def _inside(offsets: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return (offsets >= 0.0) & (offsets < side)


def _cross(down: tf.Tensor, along: tf.Tensor) -> tf.Tensor:
    return down[:, :, None, None] & along[:, None, :, None]


def _total(values: tf.Tensor, axes: tuple[int, ...] = (1, 2)) -> tf.Tensor:
    return tf.reduce_sum(values, axes, keepdims=True)


def _to_radius(
    images: tf.Tensor, perturbation: tf.Tensor, epsilon: tf.Tensor
) -> tf.Tensor:
    size = per_image(norm_per_image(perturbation, "l2"), images)
    scale = per_image(epsilon, images) / tf.maximum(size, _TINY)
    return tf.clip_by_value(images + perturbation * scale, 0.0, 1.0)
