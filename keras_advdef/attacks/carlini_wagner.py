"""CarliniWagner: the smallest l2 perturbation by descent on a penalized norm."""

import functools
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._adam import adam
from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core.errors import checked_integer, checked_number
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import (
    full_precision_logits,
    logit_margin,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in

State = dict[str, tf.Tensor]

# Keeps the inverse of tanh finite at the ends of the range.
_INSIDE = 0.999999
# Looks for progress in a run, and the share of the loss that must not remain.
_LOOKS, _PROGRESS = 10, 0.9999
# Growth of the squared norm in a tenth of a run that is progress, too.
_GROWING = 2.0
_GROWTH = 10.0


@keras.saving.register_keras_serializable(package="keras_advdef")
class CarliniWagner(MinimalAttack):
    """Minimizes `||x' - x||^2 + c * max(confidence - margin, 0)` with Adam.

    The logit margin is that of the best wrong class, or of the target, and
    `x' = (tanh(w) + 1) / 2` keeps the pixels in their range (Carlini and Wagner 2017).
    For each image, c grows tenfold until the first success and is bisected from then
    on. Adam restarts for each c, from the nearest success so far; the authors return to
    the clean image, which ends farther away when steps are few. An image stops once the
    loss no longer falls from one tenth of the steps to the next.

    Args:
        epsilon: Number of at least 0. Largest l2 norm that counts, in the units of
            `value_range`; `None` for no limit.
        steps: Largest number of Adam steps for each value of c.
        binary_search_steps: Values of c that are tried.
        learning_rate: Learning rate of Adam, in the space of `w`.
        initial_constant: First c, for images in `[0, 1]`.
        confidence: Logit margin that counts as a success, at least 0.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes),
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.carlini_wagner.CarliniWagner(
    ...     steps=60, binary_search_steps=2, learning_rate=0.05, initial_constant=1)
    >>> found = attack.search(model, images, [0], verbose=0)
    >>> bool(0.3 < np.sqrt(2) * found.norms[0] < 0.306)
    True
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    settled: ClassVar[dict[str, Any]] = {"norm": "l2"}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 1000,
        binary_search_steps: int = 9,
        learning_rate: float = 0.01,
        initial_constant: float = 0.001,
        confidence: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        integer = functools.partial(checked_integer, type(self).__name__, low=1)
        number = functools.partial(checked_number, type(self).__name__, low=0.0)
        self.steps = integer("steps", steps)
        self.binary_search_steps = integer("binary_search_steps", binary_search_steps)
        self.learning_rate = number("learning_rate", learning_rate, low_open=True)
        self.initial_constant = number(
            "initial_constant", initial_constant, low_open=True
        )
        self.confidence = number("confidence", confidence)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del classes, model
        steps = self.binary_search_steps * self.steps * self.eot_samples
        is_twice = self.precision != "float32"
        return Passes(steps * (1 + is_twice) + 2 * self.eot_samples, steps)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the nearest successes; see `MinimalAttack.look_for`."""
        del epsilon
        # As near as points come to the images, so that the norm starts at an exact 0.
        clean = _pixels(_points(images))
        look = functools.partial(self._look, logits_fn, clean, labels)
        zeros = tf.zeros_like(labels, tf.float32)

        def search(
            index: int | tf.Tensor, state: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            constant, low, high, best, nearest = state
            key = fold_in(seed, index)
            run = self._run(look, constant, (best, nearest), key)
            high = tf.where(run["hit"], tf.minimum(high, constant), high)
            low = tf.where(run["hit"], low, tf.maximum(low, constant))
            middle = 0.5 * (low + high)
            constant = tf.where(high < np.inf, middle, _GROWTH * constant)
            return constant, low, high, run["best"], run["nearest"]

        # No success yet: clean images, infinitely far from one.
        nothing = (images, zeros + np.inf)
        start = (zeros + self.initial_constant, zeros, zeros + np.inf, *nothing)
        # Unrolled, each search step would be traced for itself.
        return fixed_loop(search, start, self.binary_search_steps, unroll=False)[3]

    def _run(
        self,
        look: Any,
        constant: tf.Tensor,
        found: tuple[tf.Tensor, tf.Tensor],
        key: tf.Tensor,
    ) -> State:
        """Returns the state after one descent with a given c for each image."""
        infinite = tf.fill(tf.shape(constant), np.inf)
        state = {
            "point": _points(found[0]),
            "mean": tf.zeros_like(found[0]),
            "square": tf.zeros_like(found[0]),
            "active": tf.ones_like(constant, tf.bool),
            "hit": tf.zeros_like(constant, tf.bool),
            "lowest": infinite,
            "lowest_before": infinite,
            "farthest": tf.zeros_like(constant),
            "farthest_before": tf.zeros_like(constant),
            "best": found[0],
            "nearest": found[1],
        }

        def body(index: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            loss, squares, success, gradient = look(
                state["point"], constant, fold_in(key, index)
            )
            state = _remember(state, squares, success)
            state = _watch(state, (loss, squares), index, max(1, self.steps // _LOOKS))
            return index + 1, self._adam(state, gradient, index)

        return tf.while_loop(
            lambda index, state: (index < self.steps) & tf.reduce_any(state["active"]),
            body,
            (tf.constant(0), state),
            parallel_iterations=1,
        )[1]

    def _look(
        self,
        logits_fn: LogitsFunction,
        clean: tf.Tensor,
        labels: tf.Tensor,
        points: tf.Tensor,
        constant: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns loss, squared l2 norm, success and gradient, averaged over draws."""

        def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            def losses(
                points: tf.Tensor,
            ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
                candidates = _pixels(points)
                logits = full_precision_logits(
                    logits_fn, candidates, fold_in(key, sample)
                )
                ahead = logit_margin(logits, labels, targeted=self.targeted)
                missing = self.confidence + rounding_margin(logits) - ahead
                squares = _squares(candidates - clean)
                loss = squares + constant * tf.maximum(missing, 0.0)
                return loss, (squares, logits)

            loss, (squares, logits), gradient = input_gradient(
                losses, points, scale=logits_fn.gradient_scale
            )
            return loss, squares, logits, gradient

        loss, squares, logits, gradient = mean_over_draws(draw, self.eot_samples)
        ahead = logit_margin(logits, labels, targeted=self.targeted)
        success = ahead >= self.confidence + rounding_margin(logits)
        return loss, squares, success, gradient

    def _adam(self, state: State, gradient: tf.Tensor, index: tf.Tensor) -> State:
        """Returns the state with the points of active images moved."""
        step, (mean, square) = adam(
            gradient,
            (state["mean"], state["square"]),
            taken=tf.cast(index, tf.float32),
            learning_rate=self.learning_rate,
        )
        active = per_image(state["active"], gradient)
        point = tf.where(active, state["point"] - step, state["point"])
        return {**state, "mean": mean, "square": square, "point": point}


def _points(pixels: tf.Tensor) -> tf.Tensor:
    return tf.math.atanh(_INSIDE * (2.0 * pixels - 1.0))


def _pixels(points: tf.Tensor) -> tf.Tensor:
    return 0.5 * (tf.tanh(points) + 1.0)


def _squares(perturbation: tf.Tensor) -> tf.Tensor:
    axes = list(range(1, perturbation.shape.rank))
    return tf.reduce_sum(tf.square(perturbation), axes)


def _remember(state: State, squares: tf.Tensor, success: tf.Tensor) -> State:
    """Returns the state with the nearest success of each image kept."""
    nearer = success & (squares < state["nearest"])
    pixels = _pixels(state["point"])
    return {
        **state,
        "hit": state["hit"] | success,
        "best": tf.where(per_image(nearer, pixels), pixels, state["best"]),
        "nearest": tf.where(nearer, squares, state["nearest"]),
    }


def _watch(
    state: State, seen: tuple[tf.Tensor, tf.Tensor], index: tf.Tensor, period: int
) -> State:
    """Returns the state, inactive where a period's lowest loss is not below the last's.

    The first steps of Adam, all of full length, may lead uphill: they are compared with
    what follows, not with the start. Black and white pixels start where tanh is flat:
    their loss falls only after the perturbation has grown for a while.

    Args:
        state: The state.
        seen: Loss and squared norm of the current points.
        index: Steps taken before.
        period: Steps between two looks.
    """
    lowest = tf.minimum(state["lowest"], seen[0])
    farthest = tf.maximum(state["farthest"], seen[1])
    is_look = tf.equal(tf.math.floormod(index, period), 0)
    stalled = is_look & (lowest > _PROGRESS * state["lowest_before"])
    stalled &= farthest <= _GROWING * state["farthest_before"]
    is_end = is_look & (index > 0)
    return {
        **state,
        "active": state["active"] & ~stalled,
        "lowest": tf.where(is_look, np.inf, lowest),
        "lowest_before": tf.where(is_end, lowest, state["lowest_before"]),
        "farthest": tf.where(is_look, 0.0, farthest),
        "farthest_before": tf.where(is_end, farthest, state["farthest_before"]),
    }
