"""DeepFool: steps to the nearest decision boundary of the linearized model."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._slopes import slopes
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer, checked_number
from keras_advdef.core.image_layout import value_count
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import (
    class_margins,
    logit_margin,
    most_likely_wrong,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

# The shortest step gains so many rounding margins.
_MARGINS = 2.0


@keras.saving.register_keras_serializable(package="keras_advdef")
class DeepFool(MinimalAttack):
    """Steps to the nearest boundary of the linearized model until one is crossed.

    Let `w` be the gradient of `z_k - z_label`, for the class k with the smallest
    distance `(z_label - z_k) / ||w||`. Each step adds a perturbation of that length
    along `w`; for "linf" it goes along the sign of `w`, and the distance uses the l1
    norm (Moosavi-Dezfooli et al. 2016). The next step starts at
    `x + (1 + overshoot) * sum of steps`, clipped. On a linear model one step returns
    `1 + overshoot` times the exact distance.

    With `differentiable=True` the result of `look_for`, called inside a gradient tape,
    has derivatives with respect to the weights of the model, through logits and `w` of
    every step; choices of a class and of when to stop count as constant.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        norm: "l2" or "linf".
        steps: Largest number of steps; an image stops once it is misclassified.
        overshoot: Share of the perturbation that is added to cross the boundary.
        candidates: Wrong classes that are tried, the most likely on the clean image.
        differentiable: Whether gradients flow through the attack, which then runs all
            steps.
        **kwargs: `training`, `precision` (of the passes that give `w`), `eot_samples`
            and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.deep_fool.DeepFool(overshoot=0.0)
    >>> found = attack.search(model, images, [0], verbose=0)
    >>> round(float(found.norms[0]), 3), round(float(0.3 / np.sqrt(2)), 3)
    (0.212, 0.212)
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")

    settled: ClassVar[dict[str, Any]] = {"targeted": False}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        norm: str = "l2",
        steps: int = 50,
        overshoot: float = 0.02,
        candidates: int = 10,
        differentiable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, norm=norm, **self.with_settled(kwargs))
        owner = type(self).__name__
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.overshoot = checked_number(owner, "overshoot", overshoot, low=0.0)
        self.candidates = checked_integer(owner, "candidates", candidates, low=1)
        self.differentiable = bool(differentiable)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        draws, planes = self.eot_samples, min(self.candidates, classes - 1)
        # A look before and after, and one at the start.
        forward = (2 * self.steps + 3) * draws
        return Passes(forward, self.steps * planes * draws)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the points across the boundary; see `MinimalAttack.look_for`."""
        del epsilon

        def look(
            total: tf.Tensor, index: int | tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            key = fold_in(fold_in(seed, streams.DEEP_FOOL_CHECK), index)
            logits = self._logits(logits_fn, self._points(images, total), key)
            return logits, logit_margin(
                logits, labels, targeted=False
            ) < rounding_margin(logits)

        def body(
            index: int | tf.Tensor, state: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            total, logits, active = state
            points = self._points(images, total)
            gradients = self._slopes(logits_fn, points, margins, fold_in(seed, index))
            step = self._nearest(gradients, margins(logits), rounding_margin(logits))
            total = tf.where(per_image(active, images), total + step, total)
            logits, active_still = look(total, index + 1)
            return total, logits, active & active_still

        total = tf.zeros_like(images)
        logits, active = look(total, 0)
        likely = most_likely_wrong(logits, labels, self.candidates)
        margins = functools.partial(class_margins, labels=labels, classes=likely)
        state = (total, logits, active)
        if self.differentiable:
            return self._points(images, fixed_loop(body, state, self.steps)[0])
        total = self._until_done(body, state)
        return tf.stop_gradient(self._points(images, total))

    def _until_done(self, body: Any, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return tf.while_loop(
            lambda index, state: (index < self.steps) & tf.reduce_any(state[2]),
            lambda index, state: (index + 1, body(index, state)),
            (tf.constant(0), state),
            parallel_iterations=1,
        )[1][0]

    def _points(self, images: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(images + (1.0 + self.overshoot) * total, 0.0, 1.0)

    def _logits(
        self, logits_fn: LogitsFunction, points: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns the logits at full precision, averaged over draws."""

        def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            with draw_scope(fold_in(key, sample)):
                return (logits_fn.full_precision(points),)

        return mean_over_draws(draw, self.eot_samples)[0]

    def _slopes(
        self,
        logits_fn: LogitsFunction,
        points: tf.Tensor,
        margins: Callable[[tf.Tensor], tf.Tensor],
        key: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns `w` of each candidate, averaged over draws."""

        def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            with draw_scope(fold_in(key, sample)):
                return slopes(
                    lambda images: margins(logits_fn(images)),
                    points,
                    scale=logits_fn.gradient_scale,
                )[1]

        return mean_over_draws(draw, self.eot_samples)

    def _nearest(
        self, gradients: tuple[tf.Tensor, ...], ahead: tf.Tensor, least: tf.Tensor
    ) -> tf.Tensor:
        """Returns the shortest step that reaches a boundary of the linear model."""
        least = _MARGINS * least
        nearest = tf.fill(tf.shape(least), tf.float32.max)
        step = tf.zeros_like(gradients[0])
        for gradient, gap in zip(gradients, tf.unstack(ahead, axis=1), strict=True):
            direction, slope = _steepest(gradient, self.norm)
            # Across the boundary, but by less than the rounding margin, it goes on.
            length = tf.math.divide_no_nan(tf.maximum(-gap, least), slope)
            # From a gradient next to zero follows nothing beyond the cube.
            length = tf.minimum(length, self._diameter(step))
            nearer = (slope > 0) & (length < nearest)
            moved = per_image(length, step) * direction
            step = tf.where(per_image(nearer, step), moved, step)
            nearest = tf.where(nearer, length, nearest)
        return step

    def _diameter(self, images: tf.Tensor) -> Any:
        return value_count(images) ** 0.5 if self.norm == "l2" else 1.0


def _steepest(gradient: tf.Tensor, norm: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the direction of unit norm that climbs fastest, and its slope.

    Zero for a zero gradient, of which also the derivatives stay finite.
    """
    axes = list(range(1, gradient.shape.rank))
    if norm == "linf":
        return tf.sign(gradient), tf.reduce_sum(tf.abs(gradient), axes)
    # Squares of the gradients of a saturated model would underflow.
    size = tf.stop_gradient(tf.reduce_max(tf.abs(gradient), axes, keepdims=True))
    scaled = gradient / tf.where(size > 0, size, 1.0)
    squares = tf.reduce_sum(tf.square(scaled), axes, keepdims=True)
    length = tf.sqrt(tf.where(squares > 0, squares, 1.0))
    return scaled / length, tf.reshape(size * length, [-1])
