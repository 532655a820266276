"""HopSkipJump: gradients estimated from predictions at the decision boundary."""

import functools
import math
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._decisions import (
    Decide,
    decides,
    first_points,
    to_boundary,
)
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.image_layout import value_count
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image, steepest_step
from keras_advdef.core.random_numbers import fold_in, normal, uniform

_FIRST_DELTA = 0.1
# Bounds for the paper's precision of the bisection: few pixels would get none, and
# below the second bound float32 pixels no longer move.
_FEWEST_HALVINGS, _MOST_HALVINGS = 10, 20
# Probes move a pixel by 64 roundings of a float32 near one, at least.
_LEAST_PROBE = 2.0**-18
_LONGEST_HALVED = 20
# Bounds of one pass of the model: images, and values of all of them.
_IMAGES, _VALUES = 1024.0, 2.0**22
# The logarithm of a power of two may be this much too large.
_WHOLE = 1e-9


@keras.saving.register_keras_serializable(package="keras_advdef")
class HopSkipJump(MinimalAttack):
    """Walks along the decision boundary, using the predicted classes only.

    From noise blended towards the image, each step t probes the boundary with
    `min(initial_evaluations * sqrt(t), max_evaluations)` decisions, from which the
    gradient's direction is estimated, jumps `||x_t - x|| / sqrt(t)` along it, halved
    until the decision holds, and returns to the boundary by bisection (Chen, Jordan and
    Wainwright 2020). Works on any function, also one without gradients.

    A targeted attack starts from the nearest image of the batch that is predicted as
    the target, so its result depends on the other images.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        norm: "l2", "linf" or "l1".
        steps: Jumps.
        initial_evaluations: Decisions of the first step's estimate; each estimate is
            rounded up to whole passes of the model.
        max_evaluations: Most decisions of one estimate.
        starting_tries: Draws of noise, uniform and black and white in turn, among which
            the start is looked for.
        **kwargs: `targeted`, `training` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     return tf.one_hot(tf.cast(images[:, 0, 0, 0] > 0.5, tf.int32), 2, 9.0)
    >>> images = np.full((1, 2, 2, 1), 0.4, "float32")
    >>> attack = keras_advdef.attacks.HopSkipJump(steps=5, initial_evaluations=20)
    >>> found = attack.search(model, images, [0], seed=0, verbose=0)
    >>> found.norms.shape, found.success.tolist()
    ((1,), [True])
    """

    takes_mask = False
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1")

    settled: ClassVar[dict[str, Any]] = {"precision": "float32", "eot_samples": 1}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        norm: str = "l2",
        steps: int = 50,
        initial_evaluations: int = 100,
        max_evaluations: int = 10000,
        starting_tries: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, norm=norm, **self.with_settled(kwargs))
        integer = functools.partial(checked_integer, type(self).__name__)
        self.steps = integer("steps", steps, low=1)
        self.initial_evaluations = integer(
            "initial_evaluations", initial_evaluations, low=2
        )
        self.max_evaluations = integer("max_evaluations", max_evaluations, low=2)
        self.starting_tries = integer("starting_tries", starting_tries, low=1)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`.

        Counts the decisions of estimates and starts. Bisections and halved jumps add
        some 20 to each step.
        """
        del classes, model
        first, most = self.initial_evaluations, self.max_evaluations
        steps = range(1, self.steps + 1)
        evaluations = int(sum(min(first * step**0.5, most) for step in steps))
        return Passes(evaluations + self.starting_tries, 0)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the nearest point of the walk; see `MinimalAttack.look_for`."""
        del epsilon
        targeted, key = self.targeted, fold_in(seed, streams.WALK_START)
        decide = functools.partial(decides, logits_fn, labels=labels, targeted=targeted)
        start, found = first_points(
            logits_fn,
            images,
            labels,
            fold_in(key, 0),
            targeted=targeted,
            tries=self.starting_tries,
        )
        start = self._search(decide, images, start, fold_in(key, 1))

        def body(
            index: tf.Tensor, current: tf.Tensor, best: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            step_key = fold_in(seed, index)
            current = self._step(decide, images, current, index, step_key)
            nearer = self._distance(current, images) < self._distance(best, images)
            return (
                index + 1,
                current,
                tf.where(per_image(nearer, images), current, best),
            )

        return tf.while_loop(
            lambda index, current, best: (index < self.steps) & tf.reduce_any(found),
            body,
            (tf.constant(0), start, start),
            parallel_iterations=1,
        )[2]

    def _distance(self, points: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return norm_per_image(points - images, self.norm)

    def _halvings(self, images: tf.Tensor) -> tf.Tensor:
        """Returns how often the search halves: down to `d**-1.5`, or `d**-2`."""
        power = 2.0 if self.norm == "linf" else 1.5
        values = tf.cast(value_count(images), tf.float64)
        halvings = tf.math.ceil(power * tf.math.log(values) / math.log(2.0) - _WHOLE)
        halvings = tf.clip_by_value(halvings, _FEWEST_HALVINGS, _MOST_HALVINGS)
        return tf.cast(halvings, tf.float32)

    def _search(
        self, decide: Decide, images: tf.Tensor, points: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        halvings = self._halvings(images)
        return to_boundary(
            decide, images, points, key, norm=self.norm, halvings=halvings
        )

    def _step(
        self,
        decide: Decide,
        images: tf.Tensor,
        current: tf.Tensor,
        index: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the boundary point one estimate and one jump later."""
        root = tf.sqrt(tf.cast(index + 1, tf.float32))
        distance = self._distance(current, images)
        delta = self._delta(images, distance, index)
        count = tf.minimum(self.initial_evaluations * root, self.max_evaluations)
        slope = self._slope(decide, current, delta, count, fold_in(key, 0))
        direction = steepest_step(slope, current, self.norm)
        jumped = _jump(decide, current, direction, distance / root, fold_in(key, 1))
        return self._search(decide, images, jumped, fold_in(key, 2))

    def _delta(
        self, images: tf.Tensor, distance: tf.Tensor, index: tf.Tensor
    ) -> tf.Tensor:
        """Returns the length of the probes: wide at first, then as the search."""
        root = value_count(images) ** 0.5
        spread = root**2 if self.norm == "linf" else root
        delta = spread * 2.0 ** -self._halvings(images) * distance
        delta = tf.maximum(delta, root * _LEAST_PROBE)
        return tf.where(index == 0, _FIRST_DELTA, delta)

    def _slope(
        self,
        decide: Decide,
        current: tf.Tensor,
        delta: tf.Tensor,
        count: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Estimates the direction in which the decision holds more and more.

        It is the mean of `(phi - mean phi) * u` over probes `u`, phi being 1 where the
        decision holds and -1 elsewhere.
        """
        chunk = self._chunk(current)
        rounds = tf.cast(tf.math.ceil(count / tf.cast(chunk, tf.float32)), tf.int32)
        radius = per_image(delta, current)

        def add(index: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            own = fold_in(key, index)
            probes = radius * self._directions(fold_in(own, 0), chunk, current)
            points = tf.clip_by_value(current + probes, 0.0, 1.0)
            flat = tf.reshape(points, tf.concat([[-1], tf.shape(current)[1:]], 0))
            flat = tf.ensure_shape(flat, [None, *current.shape[1:]])
            holds = tf.reshape(decide(flat, fold_in(own, 1)), tf.shape(points)[:2])
            signs = 2.0 * tf.cast(holds, tf.float32) - 1.0
            # At the border of the range it counts where the probe came to lie.
            moved = (points - current) / radius
            signed = tf.reshape(signs, [chunk, -1] + [1] * len(current.shape[1:]))
            new = (signs, signed * moved, moved)
            pairs = zip(sums, new, strict=True)
            return index + 1, *(
                tf.ensure_shape(old + tf.reduce_sum(each, 0), old.shape)
                for old, each in pairs
            )

        zeros = tf.zeros_like(delta), tf.zeros_like(current), tf.zeros_like(current)
        _, signs, signed, moved = tf.while_loop(
            lambda index, *sums: index < rounds,
            add,
            (tf.constant(0), *zeros),
            parallel_iterations=1,
        )
        mean = per_image(signs / tf.cast(rounds * chunk, tf.float32), current)
        # Where all probes agree the baseline would leave nothing.
        return tf.where(tf.abs(mean) < 1.0, signed - mean * moved, signed)

    def _chunk(self, images: tf.Tensor) -> tf.Tensor:
        """Returns how many probes of each image one pass of the model takes."""
        batch = tf.cast(tf.shape(images)[0], tf.float32)
        most = tf.minimum(_IMAGES, _VALUES / value_count(images)) / batch
        least = min(self.initial_evaluations, self.max_evaluations) / 4
        return tf.cast(tf.maximum(tf.minimum(most, least), 1.0), tf.int32)

    def _directions(
        self, key: tf.Tensor, chunk: tf.Tensor, images: tf.Tensor
    ) -> tf.Tensor:
        """Draws vectors of l2 norm one, `(chunk, batch, ...)`."""
        shape = [chunk, *tf.unstack(tf.shape(images))]
        if self.norm != "linf":
            noise = normal(key, shape)
        else:
            noise = 2.0 * uniform(key, shape) - 1.0
        axes = list(range(2, noise.shape.rank))
        size = tf.sqrt(tf.reduce_sum(tf.square(noise), axes, keepdims=True))
        return tf.math.divide_no_nan(noise, size)


def _jump(
    decide: Decide,
    current: tf.Tensor,
    direction: tf.Tensor,
    length: tf.Tensor,
    key: tf.Tensor,
) -> tf.Tensor:
    """Moves by a length that is halved until the decision holds."""

    def attempt(
        index: tf.Tensor, moved: tf.Tensor, done: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        share = per_image(length * 0.5 ** tf.cast(index, tf.float32), current)
        candidate = tf.clip_by_value(current + share * direction, 0.0, 1.0)
        good = ~done & decide(candidate, fold_in(key, index))
        return (
            index + 1,
            tf.where(per_image(good, current), candidate, moved),
            done | good,
        )

    return tf.while_loop(
        lambda index, moved, done: (index < _LONGEST_HALVED) & ~tf.reduce_all(done),
        attempt,
        (tf.constant(0), current, tf.zeros_like(length, tf.bool)),
        parallel_iterations=1,
    )[1]
