"""Walk: base of the attacks that descend towards the nearest adversarial image."""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.predictions import (
    bound_logits,
    full_precision_logits,
    logit_margin,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in

State = dict[str, tf.Tensor]

# A success of fewer rounding margins may be none in another batch.
_MARGINS = 2.0
# Between the largest and the smallest logit: most nets have about as much.
_SPREAD = 20.0


class Look(NamedTuple):
    """What one pass of the model says about the current points.

    Args:
        gradient: Gradients of the objective.
        gap: How far the logit margin is from that of a sure success, `(batch,)`.
        succeeds: Whether each point is adversarial, `(batch,)`.
    """

    gradient: tf.Tensor
    gap: tf.Tensor
    succeeds: tf.Tensor


class Walk(MinimalAttack):
    """Base of minimal attacks of one gradient a step, which keep the nearest success.

    A subclass writes `objective` and `move`, and `begin` if its steps carry more than a
    point. All steps are taken; the first looks at the clean image.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        steps: Forward and backward passes for each image.
        **kwargs: `norm`, `targeted`, `training`, `precision`, `eot_samples` and
            `value_range`; see `Attack`.
    """

    def __init__(
        self, epsilon: float | None = None, *, steps: int, **kwargs: Any
    ) -> None:
        super().__init__(epsilon, **kwargs)
        self.steps = checked_integer(type(self).__name__, "steps", steps, low=1)

    def objective(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns what a step raises, `(batch,)`.

        Args:
            logits: Float32 tensor of shape `(batch, classes)`.
            labels: Classes to leave or to reach, `(batch,)`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `objective`.")

    def begin(self, images: tf.Tensor) -> State:
        """Returns what the steps carry along besides the points.

        Args:
            images: Clean images in `[0, 1]`.
        """
        del images
        return {}

    def move(self, state: State, look: Look, taken: tf.Tensor, key: tf.Tensor) -> State:
        """Returns the state with its points moved, within `[0, 1]`.

        Args:
            state: Has `images`, `point`, the nearest success `best` with its norm
                `nearest` (infinite without one), and what `begin` returned.
            look: What the model says about the points.
            taken: Steps taken before, float32.
            key: Key for draws.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `move`.")

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the nearest success met; see `MinimalAttack.look_for`."""
        del epsilon

        def step(index: int | tf.Tensor, states: tuple[State]) -> tuple[State]:
            key = fold_in(seed, index)
            state = states[0]
            look = self._look(logits_fn, state["point"], labels, key)
            state = self._remembered(state, look)
            moved = self.move(state, look, tf.cast(index, tf.float32), key)
            return ({**moved, "point": logits_fn.confined(moved["point"])},)

        state = {
            "images": images,
            "point": images,
            "best": images,
            "nearest": tf.fill(tf.shape(labels), np.float32(np.inf)),
            **self.begin(images),
        }
        # Steps hold loops of their own.
        return fixed_loop(step, (state,), self.steps, unroll=False)[0]["best"]

    def _look(
        self,
        logits_fn: LogitsFunction,
        points: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> Look:
        """Returns what the model says, averaged over draws."""

        def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            def objective(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                sampled = fold_in(key, sample)
                logits = full_precision_logits(logits_fn, points, sampled)
                return self.objective(logits, labels), logits

            scale = logits_fn.gradient_scale
            return input_gradient(objective, points, scale=scale)[1:]

        logits, gradient = mean_over_draws(draw, self.eot_samples)
        ahead = logit_margin(logits, labels, targeted=self.targeted)
        least = rounding_margin(logits)
        return Look(gradient, _MARGINS * least - ahead, ahead >= least)

    def _remembered(self, state: State, look: Look) -> State:
        """Returns the state with the nearest success of each image kept."""
        norms = norm_per_image(state["point"] - state["images"], self.norm)
        nearer = look.succeeds & (norms < state["nearest"])
        wide = per_image(nearer, state["point"])
        return {
            **state,
            "best": tf.where(wide, state["point"], state["best"]),
            "nearest": tf.where(nearer, norms, state["nearest"]),
        }

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del classes, model
        steps = self.steps * self.eot_samples
        is_twice = self.precision != "float32"
        return Passes(steps * (1 + is_twice) + 2 * self.eot_samples, steps)

    def __str__(self) -> str:
        return f"{type(self).__name__}-{self.steps}"


def soft_margin(logits: tf.Tensor, labels: tf.Tensor, *, targeted: bool) -> tf.Tensor:
    """Returns the logit margin of an attack with a soft maximum over other classes.

    It is the log-odds of the classes that the attack wants, at a temperature for which
    logits spread over 20, so that neither their scale nor a temperature in the model
    matters: with tiny ones all wrong classes would count alike, with huge ones the best
    alone. The gradient has the direction of that of the cross-entropy there, but does
    not vanish where the model is sure.

    Args:
        logits: Float32 tensor of shape `(batch, classes)`.
        labels: Classes to leave, or targets to reach, `(batch,)`.
        targeted: Whether the labels are targets.

    Returns:
        Tensor of shape `(batch,)`, in the units of the logits.

    Example:

    >>> from keras_advdef.attacks._walk import soft_margin
    >>> logits = tf.constant([[2.0, 1.0, 0.0]])
    >>> [round(float(soft_margin(logits, tf.constant([0]), targeted=each)[0]), 4)
    ...  for each in (False, True)]
    [-1.0, 1.0]
    """
    logits = bound_logits(logits)
    fixed = tf.stop_gradient(logits)
    spread = tf.reduce_max(fixed, -1, keepdims=True)
    spread -= tf.reduce_min(fixed, -1, keepdims=True)
    temperature = tf.where(spread > 0.0, spread / _SPREAD, 1.0)
    logits /= temperature
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    own = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    others = tf.reduce_logsumexp(tf.where(is_label, -np.inf, logits), axis=-1)
    odds = own - others if targeted else others - own
    return temperature[:, 0] * odds


def annealed(taken: tf.Tensor, steps: int, first: float, last: float) -> tf.Tensor:
    """Returns a number that falls along half a cosine.

    Args:
        taken: Steps taken before, float32.
        steps: Number of steps.
        first: Value at the first step.
        last: Value that the steps lead to.

    Example:

    >>> from keras_advdef.attacks._walk import annealed
    >>> [round(float(annealed(tf.constant(each), 4, 1.0, 0.0)), 2)
    ...  for each in (0.0, 2.0, 4.0)]
    [1.0, 0.5, 0.0]
    """
    cosine = tf.cos(taken * (math.pi / steps))
    return last + (first - last) * 0.5 * (1.0 + cosine)


def widest(images: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the norm of the largest perturbation within `[0, 1]`, `(batch,)`.

    Args:
        images: Clean images in `[0, 1]`.
        norm: "linf", "l2", "l1" or "l0".

    Example:

    >>> from keras_advdef.attacks._walk import widest
    >>> widest(tf.constant([[0.2, 0.7]]), "l1").numpy().round(4)
    array([1.5], dtype=float32)
    """
    return norm_per_image(tf.maximum(images, 1.0 - images), norm)
