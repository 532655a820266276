"""measure_true_gradients: whether input gradients are those of the function."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.norms import project, random_point, steepest_step
from keras_advdef.core.predictions import logit_margin
from keras_advdef.core.random_numbers import fold_in, make_key, normal
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.differing_rows import rounding_share
from keras_advdef.evaluation._request.derived_seed import derived_seed

# Points in each image's ball; every second one is attacked first.
_POINTS = 4
_STEPS = 10
# As PGD: its steps can cross the ball and turn back.
_REACH = 2.5
# Lengths of steps, as shares of epsilon, and which share of the gain that the gradient
# promises they must keep. Adversarially trained nets bend most: of the longer, the
# farthest images known keep 0.47 and 2.1 times the promise, other nets 0.85 to 1.1.
# Much shorter steps show only how a function is written, not where it leads.
_LENGTHS = (0.05, 0.02)
_KEPT = ((0.35, 3.0), (0.5, 2.5))
_RIVALS = 8
# What the shorter steps in random directions, from random points, gain must agree with
# what the gradient promises for them. The cosine between both is at least 0.83 around
# 1500 images of 31 honest nets; a gradient that is blurred on its way still leads
# upwards, and has 0.4 to 0.75.
_AGREES = 0.8
# Every second rival is made of patches, which most nets heed more than single pixels.
_PATCH = 4
# Two forward passes with the same draws differ only by rounding.
_SAME = 0.05

_Rows = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrueGradients:
    """What short steps along the gradient gain, at some points around each image.

    Attributes:
        kept: The gain of a longer and of a shorter step along the gradient, as a share
            of what the gradient promises; the median over the points of each image,
            `(count, 2)`.
        best: Share of an image's points where that step gains no less than every
            other step of its length that was tried, `(count,)`.
        settled: Whether a second look at the same point with the same draws gave the
            same loss; without, nothing can be said, `(count,)`.
    """

    kept: np.ndarray
    best: np.ndarray
    agrees: np.ndarray
    settled: np.ndarray

    @property
    def is_false(self) -> np.ndarray:
        """Whether the gradient leads elsewhere than it says, `(count,)`."""
        low, high = np.transpose(_KEPT)
        is_kept = ((self.kept >= low) & (self.kept <= high)).all(axis=1)
        is_true = is_kept & (self.best >= 0.5) & (self.agrees >= _AGREES)
        return self.settled & ~is_true


def measure_true_gradients(
    view: ModelView,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    norm: str,
    value_range: ValueRange,
    batch_size: int,
    seed: int,
) -> TrueGradients:
    """Compares what a model's gradients promise with what the model then does.

    A mask may give a gradient that is finite, smooth and not the function's: that of
    another net, or one of another sign. Attacks then walk to where nothing is. So a
    step of a twentieth of epsilon is taken along the gradient, from random and from
    attacked points of the ball. A random model draws the same in all of them.

    Args:
        view: The model as the attacks see it.
        images: Images in the value range.
        labels: Their classes, `(count,)`.
        epsilon: Radius of the ball, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        value_range: Range of the pixels.
        batch_size: Images per compiled call.
        seed: Seed of all draws.
    """
    logits_fn = LogitsFunction(view, value_range=value_range)
    logits_fn.build(images.shape[1:])
    rounding = rounding_share(view.model)
    radius = epsilon / value_range.span
    look = TracedFunction(_Look(logits_fn, norm, radius, rounding=rounding))
    size = min(batch_size, len(images))
    found = []
    for start in range(0, len(images), size):
        batch = images[start : start + size].astype(np.float32)
        unit = value_range.to_unit(tf.constant(pad_rows(batch, size)))
        goal = tf.constant(pad_rows(labels[start : start + size], size))
        looks = []
        for point in range(_POINTS):
            key = make_key(derived_seed(seed, "true-gradients", start, point))
            steps = tf.constant(_STEPS * (point % 2))
            looks.append(look((unit, goal), key, steps))
        columns = zip(*looks, strict=True)
        found.append([np.stack(each)[:, : len(batch)] for each in columns])
    columns = zip(*found, strict=True)
    kept, best, products, settled = (np.concatenate(each, axis=1) for each in columns)
    both, gained, promised, largest = products[::2].mean(axis=0).T
    # Where steps promise no more than rounding, nothing can be said.
    is_told = np.sqrt(promised) > rounding * largest
    cosine = both / np.maximum(np.sqrt(gained * promised), np.finfo("float32").tiny)
    return TrueGradients(
        kept=np.median(kept, axis=0),
        best=best.mean(axis=0),
        agrees=np.where(is_told, cosine, 1.0),
        settled=settled.mean(axis=0) > 0.5,
    )


class _Look:
    """Steps along the gradient and along other directions, from one point per image.

    Args:
        logits_fn: The model.
        norm: Norm of the ball.
        radius: Its radius, on the `[0, 1]` scale.
        rounding: Share of its logits that rounding may change.
    """

    def __init__(
        self, logits_fn: LogitsFunction, norm: str, radius: float, *, rounding: float
    ) -> None:
        self._logits_fn = logits_fn
        self._norm = norm
        self._radius = radius
        self._rounding = rounding
        # In l1 a step moves few pixels, so one of a large ball is no short one.
        self._whole_step = min(radius, 1.0) if norm == "l1" else radius

    def __call__(
        self, rows: _Rows, key: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns `kept`, `best`, products and `settled` at one point of each image.

        The products are those of what random steps gain with what the gradient
        promises for them, the squares of both, and the largest logit.

        Args:
            rows: Images in `[0, 1]` and labels.
            key: Fixes the point, the directions and the model's own draws.
            steps: Steps of the attack before.
        """
        points = self._walk(rows, key, steps)
        before, slope = self._slope(points, rows[1], key)
        axes = list(range(1, points.shape.rank))
        rises, promises = [], []
        for length in _LENGTHS:
            ahead = self._step(points, slope, length)
            rises.append(self._loss(ahead, rows[1], key) - before)
            promises.append(tf.reduce_sum(slope * (ahead - points), axes))
        rise, promise = rises[0], promises[0]
        logits = self._logits(points, key)
        largest = tf.reduce_max(tf.abs(logits), axis=1)
        again = tf.abs(logit_margin(logits, rows[1], targeted=False) - before)

        def outdo(index: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            noise = self._rival(index, key, points)
            ahead = self._step(points, noise, _LENGTHS[0])
            rival = self._loss(ahead, rows[1], key) - before
            return index + 1, best & (rise >= rival)

        _, best = tf.while_loop(
            lambda index, _: index < _RIVALS, outdo, (tf.constant(0), rise > 0.0)
        )

        # At attacked points, adversarially trained nets are rough.
        tried = tf.where(steps == 0, _RIVALS, 0)
        sums = self._agreement((points, slope, rows[1]), key, tried)
        products = tf.concat([sums / (_RIVALS // 2), largest[:, None]], 1)
        promised = tf.stack(promises, 1)
        astray = tf.stack(rises, 1) - promised
        rounded = self._rounding * largest[:, None]
        astray = tf.sign(astray) * tf.nn.relu(tf.abs(astray) - rounded)
        kept = tf.math.divide_no_nan(promised + astray, promised)
        is_settled = again <= _SAME * tf.maximum(promise, tf.abs(rise))
        return kept, best, products, is_settled

    def _agreement(
        self,
        at: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        key: tf.Tensor,
        tried: tf.Tensor,
    ) -> tf.Tensor:
        """What random steps gain and what is promised: products and both squares.

        Args:
            at: Points, the gradients there, and labels.
            key: Fixes the directions and the model's own draws.
            tried: Rivals, of which every second one is looked at.
        """
        points, slope, labels = at
        axes = list(range(1, points.shape.rank))

        def add(index: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            noise = self._rival(index, key, points)
            # What bends is left out of the difference of two steps.
            ahead, behind = (
                self._step(points, sign * noise, _LENGTHS[1]) for sign in (1.0, -1.0)
            )
            gained = self._loss(ahead, labels, key) - self._loss(behind, labels, key)
            promised = tf.reduce_sum(slope * (ahead - behind), axes)
            pair = tf.stack([gained * promised, gained**2, promised**2], 1)
            # The others are of patches, which agree with what is blurred.
            return index + 2, sums + pair

        nothing = tf.constant(0), tf.zeros([tf.shape(points)[0], 3])
        return tf.while_loop(lambda index, _: index < tried, add, nothing)[1]

    def _walk(self, rows: _Rows, key: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        """A random point of each ball, after some steps of PGD."""
        images, labels = rows
        length = _REACH * self._radius / _STEPS

        def move(index: tf.Tensor, points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            _, slope = self._slope(points, labels, key)
            ahead = points + length * steepest_step(slope, points, self._norm)
            return index + 1, project(ahead, images, self._radius, self._norm)

        start = random_point(key, images, self._radius, self._norm)
        _, points = tf.while_loop(
            lambda index, _: index < steps, move, (tf.constant(0), start)
        )
        return points

    def _step(
        self, points: tf.Tensor, direction: tf.Tensor, length: float
    ) -> tf.Tensor:
        step = steepest_step(direction, points, self._norm)
        return tf.clip_by_value(points + length * self._whole_step * step, 0.0, 1.0)

    def _rival(self, index: tf.Tensor, key: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
        """A random direction, of single values or of patches."""
        key = fold_in(key, 1 + index)
        count, rows, cols, channels = tf.unstack(tf.shape(points))
        fine = normal(fold_in(key, 0), [count, rows, cols, channels])
        size = [count, -(-rows // _PATCH), -(-cols // _PATCH), channels]
        coarse = normal(fold_in(key, 1), size)
        for axis in (1, 2):
            coarse = tf.repeat(coarse, _PATCH, axis)
        # In l1, a step moves the largest values, which all values of a patch are.
        mixed = coarse[:, :rows, :cols] + 1e-3 * fine
        rival = tf.where(index % 2 == 0, fine, mixed)
        return tf.ensure_shape(rival, points.shape)

    def _loss(self, points: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """The best wrong logit minus the true one; all points see the same draws."""
        return logit_margin(self._logits(points, key), labels, targeted=False)

    def _logits(self, points: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        with draw_scope(key):
            return self._logits_fn(points)

    def _slope(
        self, points: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        loss, _, slope = input_gradient(
            lambda images: (self._loss(images, labels, key), None),
            points,
            scale=self._logits_fn.gradient_scale,
        )
        return loss, slope
