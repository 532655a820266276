"""JSMA: repeatedly raises the pair of pixels that helps the target most."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._slopes import slopes
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_number
from keras_advdef.core.image_layout import flattened, value_count
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import (
    full_precision_logits,
    logit_margin,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in

# Keeps a share that is a whole number of pairs from being rounded below it.
_WHOLE = 1e-9
# Rows and columns of the part of the table of pairs that is looked at in one piece.
_TILE = 64
# Stands for values that no pair may hold; products of its sums stay finite.
_NEVER = -1e18
# For images whose size a graph learns only when it runs.
_MOST_PIXELS = 2**24


@keras.saving.register_keras_serializable(package="keras_advdef")
class JSMA(MinimalAttack):
    """Raises a few pixels by a large step, two at a time, until the target is reached.

    Each step takes, of all pairs of unused values, the one with the largest
    `-alpha * beta`, where `alpha > 0` is the sum of the two derivatives of the target's
    logit and `beta < 0` that of the sum of all other logits, and raises both by theta
    (Papernot et al. 2016). Untargeted, the target is the most likely wrong class of the
    clean image, and any wrong class ends the search.

    The norm is "l0", the number of changed values: each channel of a pixel counts.

    Args:
        epsilon: Largest number of values that may change; `None` for `gamma` alone.
        theta: Number above 0. Step by which values rise, in the units of `value_range`.
        gamma: Largest share of an image's values that may change.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes) and
            `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     brightness = tf.reduce_sum(images, [1, 2, 3])
    ...     return tf.stack([4.0 - brightness, brightness], axis=1)
    >>> images = np.full((1, 2, 2, 1), 0.4)
    >>> attack = keras_advdef.attacks.jsma.JSMA(gamma=0.5)
    >>> found = attack.search(model, images, [0], verbose=0)
    >>> found.success.tolist(), found.norms.tolist()
    ([True], [2.0])
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)

    settled: ClassVar[dict[str, Any]] = {"norm": "l0", "eot_samples": 1}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        theta: float = 1.0,
        gamma: float = 0.145,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        self.theta = checked_number("JSMA", "theta", theta, low=0.0, low_open=True)
        self.gamma = checked_number(
            "JSMA", "gamma", gamma, low=0.0, high=1.0, low_open=True
        )

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`.

        Without an epsilon the number of steps depends on the size of the images, and
        one step is counted.
        """
        del classes, model
        steps = 1 if self.epsilon is None else int(self.epsilon // 2) + 1
        is_twice = self.precision != "float32"
        looks = steps + (not self.targeted)
        return Passes(looks * (1 + is_twice) + 2, 2 * steps)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the images after the last pair; see `MinimalAttack.look_for`."""
        targets = self._targets(
            logits_fn, images, labels, fold_in(seed, streams.JSMA_TARGET)
        )
        theta = self.theta / self.value_range.span
        # In float64, in which a share of a whole number of pairs stays whole.
        values = tf.cast(value_count(images), tf.float64)
        steps = tf.cast(self.gamma * values / 2.0 + _WHOLE, tf.int32)

        def body(
            index: tf.Tensor, points: tf.Tensor, unused: tf.Tensor, active: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            key = fold_in(seed, index)
            logits, rise, fall = _derivatives(logits_fn, points, targets, key)
            ahead = logit_margin(logits, labels, targeted=self.targeted)
            free = unused & (points < 1.0)
            pair = best_pair(*map(flattened, (rise, -fall, free)))
            # One more pair must not exceed epsilon.
            affordable = 2.0 * tf.cast(index + 1, tf.float32) <= epsilon
            active &= (ahead < rounding_margin(logits)) & affordable
            active &= tf.reduce_any(pair, axis=1)
            raised = tf.reshape(pair, tf.shape(points)) & per_image(active, points)
            higher = tf.minimum(points + theta, 1.0)
            points = tf.where(raised, higher, points)
            return index + 1, points, unused & ~raised, active

        unused = logits_fn.mask
        if unused is None:
            unused = tf.ones_like(images, tf.bool)
        active = tf.ones_like(labels, tf.bool)
        return tf.while_loop(
            lambda index, points, unused, active: (
                (index < steps) & tf.reduce_any(active)
            ),
            body,
            (tf.constant(0), images, unused, active),
            parallel_iterations=1,
        )[1]

    def _targets(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the classes to reach: the labels, or the most likely wrong ones."""
        if self.targeted:
            return labels
        logits = full_precision_logits(logits_fn, images, key)
        others = tf.where(_is_class(logits, labels), tf.float32.min, logits)
        return tf.argmax(others, axis=1, output_type=labels.dtype)


def _derivatives(
    logits_fn: LogitsFunction, points: tf.Tensor, targets: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns logits, and derivatives of the target's logit and of the others' sum."""
    kept: list[tf.Tensor] = []

    def outputs(images: tf.Tensor) -> tf.Tensor:
        logits = full_precision_logits(logits_fn, images, key)
        kept.append(logits)
        is_target = _is_class(logits, targets)
        own = tf.reduce_sum(tf.where(is_target, logits, 0.0), axis=1)
        others = tf.reduce_sum(tf.where(is_target, 0.0, logits), axis=1)
        return tf.stack([own, others], axis=1)

    _, (rise, fall) = slopes(outputs, points, scale=logits_fn.gradient_scale)
    return kept[0], rise, fall


def _is_class(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    return tf.one_hot(classes, logits.shape[1], on_value=True, off_value=False)


def best_pair(first: tf.Tensor, second: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Returns the pair p, q with the largest `(f_p + f_q) * (s_p + s_q)`.

    Only pairs count for which both sums are positive. A pixel that two others equal or
    surpass in both values can be replaced in any pair, so it is left out; the pairs of
    the rest, usually a few dozen pixels, are compared tile by tile.

    Args:
        first: Float32 tensor of shape `(batch, pixels)`.
        second: The same.
        allowed: Boolean tensor of the same shape, the pixels that may be in a pair.

    Returns:
        Boolean tensor of the same shape: two true values in each row, or none where no
        pair counts.

    Example:

    >>> first = tf.constant([[3.0, 1.0, 2.0]])
    >>> allowed = tf.constant([[True, True, True]])
    >>> keras_advdef.attacks.jsma.best_pair(first, first, allowed).numpy()
    array([[ True, False,  True]])
    """
    pixels = _width(first)
    places, values = _survivors(_scaled(first), _scaled(second), allowed)
    count = tf.reduce_max(tf.reduce_sum(tf.cast(values[0] > _NEVER, tf.float32), 1))
    tiles = tf.cast(tf.math.ceil(count / _TILE), tf.int32)
    product, one, other = _search(*values, tiles)
    found = (product > 0.0)[:, None]
    is_one, is_other = (
        tf.one_hot(_picked(places, each), pixels, on_value=True, off_value=False)
        for each in (one, other)
    )
    return found & (is_one | is_other)


def _width(values: tf.Tensor) -> Any:
    """Returns the length of the rows, a number where it is known."""
    return values.shape[1] or tf.shape(values)[1]


def _scaled(values: tf.Tensor) -> tf.Tensor:
    """Divides by the largest size, so that products do not underflow."""
    largest = tf.reduce_max(tf.abs(values), axis=1, keepdims=True)
    return tf.math.divide_no_nan(values, largest)


def _picked(places: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    picked = tf.gather(places, tf.cast(index[:, None], tf.int32), batch_dims=1)
    return tf.cast(picked[:, 0], tf.int32)


def _survivors(
    first: tf.Tensor, second: tf.Tensor, allowed: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Returns the pixels that a best pair may need, those in front, padded.

    Returns:
        Their places in the image as floats, and their two values, each
        `(batch, padded pixels)`; the rest is `_NEVER`.
    """
    pixels = _width(first)
    first = tf.where(allowed, first, _NEVER)
    second = tf.where(allowed, second, _NEVER)
    first, order = tf.math.top_k(first, pixels)
    second = tf.gather(second, order, batch_dims=1)
    # In this order only an earlier pixel can surpass one in both values.
    keep = second > _second_largest_before(second)
    # Distinct numbers, so that survivors stay in order whatever sorts them.
    rank = tf.where(keep, tf.range(pixels, 0, -1, tf.float32), 0.0)
    front = tf.math.top_k(rank, pixels).indices
    places = tf.gather(tf.cast(order, tf.float32), front, batch_dims=1)
    padding = [[0, 0], [0, -pixels % _TILE]]
    first, second = (
        tf.pad(
            tf.gather(tf.where(keep, each, _NEVER), front, batch_dims=1),
            padding,
            constant_values=_NEVER,
        )
        for each in (first, second)
    )
    return places, (first, second)


def _second_largest_before(values: tf.Tensor) -> tf.Tensor:
    """Returns, for each place of a row, the second largest value before it."""
    largest = _shifted(values, 1)
    second = tf.fill(tf.shape(values), _NEVER)
    # Each round doubles how many values a place has seen.
    for power in range(((values.shape[1] or _MOST_PIXELS) - 1).bit_length()):
        reach = 2**power
        earlier, earlier_second = _shifted(largest, reach), _shifted(second, reach)
        smaller = tf.minimum(largest, earlier)
        second = tf.maximum(smaller, tf.maximum(second, earlier_second))
        largest = tf.maximum(largest, earlier)
    return second


def _shifted(values: tf.Tensor, count: int) -> tf.Tensor:
    places = tf.range(value_count(values))
    return tf.where(places >= count, tf.roll(values, count, axis=1), _NEVER)


def _search(
    first: tf.Tensor, second: tf.Tensor, tiles: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the largest product and the two columns that give it, as floats."""
    cut = [-1, _width(first) // _TILE, _TILE]
    first, second = tf.reshape(first, cut), tf.reshape(second, cut)

    def look(
        row: tf.Tensor, column: tf.Tensor, best: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        rows = [tf.gather(each, row, axis=1)[:, :, None] for each in (first, second)]
        columns = [
            tf.gather(each, column, axis=1)[:, None, :] for each in (first, second)
        ]
        firsts, seconds = rows[0] + columns[0], rows[1] + columns[1]
        one = tf.cast(row * _TILE, tf.float32) + tf.range(_TILE, dtype=tf.float32)
        other = tf.cast(column * _TILE, tf.float32) + tf.range(_TILE, dtype=tf.float32)
        counts = (firsts > 0.0) & (seconds > 0.0) & (one[:, None] < other)
        products = tf.where(counts, firsts * seconds, 0.0)
        return _better(tf.reshape(products, [-1, _TILE * _TILE]), one, other, best)

    def step(
        row: tf.Tensor, column: tf.Tensor, best: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        best = look(row, column, best)
        is_last = column + 1 >= tiles
        following = tf.where(is_last, row + 1, column + 1)
        return tf.where(is_last, row + 1, row), following, best

    zeros = tf.zeros_like(first[:, 0, 0])
    return tf.while_loop(
        lambda row, column, best: row < tiles,
        step,
        (tf.constant(0), tf.constant(0), (zeros, zeros, zeros)),
        parallel_iterations=1,
    )[2]


def _better(
    products: tf.Tensor, one: tf.Tensor, other: tf.Tensor, best: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Returns the best pair so far, a tile `(batch, rows * columns)` later."""
    index = tf.cast(tf.argmax(products, axis=1), tf.float32)
    row = tf.floor(index / _TILE)
    new = (
        tf.reduce_max(products, axis=1),
        one[0] + row,
        other[0] + index - row * _TILE,
    )
    better = new[0] > best[0]
    return tuple(
        tf.where(better, mine, old) for mine, old in zip(new, best, strict=True)
    )
