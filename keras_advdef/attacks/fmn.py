"""FMN: gradient steps in a ball that follows the decision boundary."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._boundary_step import plane_distance
from keras_advdef.attacks._walk import (
    Look,
    State,
    Walk,
    annealed,
    soft_margin,
    widest,
)
from keras_advdef.core.errors import checked_number
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import (
    keep_largest,
    norm_per_image,
    per_image,
    project,
    steepest_step,
)

# First step in "linf", where one of length 1 moves most pixels by next to nothing.
_LINF_STEP = 10.0
# Shares of their first values to which the step size and gamma fall.
_LAST_STEP, _LAST_GAMMA = 0.01, 0.02
# 26 halvings bring the share of a step to float32 precision.
_BISECTIONS = 26


@keras.saving.register_keras_serializable(package="keras_advdef")
class FMN(Walk):
    """Fast minimum-norm attack: steps of steepest ascent in a ball that adapts.

    Each step goes along the gradient, scaled to an l2 norm of `step_size`, and is
    projected onto a ball around the image. Until the first success the ball reaches as
    far as the boundary of the linearized model; from then on it shrinks by the share
    `gamma` after a success and grows by it after a miss. For "l0" the ball begins with
    one value and changes by one at least. Step size and gamma fall along a cosine
    (Pintor et al. 2021). The nearest adversarial point is kept. The authors raise the
    difference of two logits; a soft maximum over the wrong classes, used here, does not
    jump from one to another and led nearer.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`, a count of values for "l0"; `None` for no limit.
        norm: "linf", "l2", "l1", or "l0", the number of changed values: each channel
            of a pixel counts.
        steps: Steps, one forward and one backward pass each.
        step_size: First length of the steps in l2, whatever the norm, in the units of
            `value_range`; `None` for the width of the range, and ten times that for
            "linf".
        gamma: Share above 0, at most 1, by which the ball grows or shrinks at first.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes),
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.FMN(norm="linf", steps=50)
    >>> found = attack.search(model, images, [0], seed=0, verbose=0)
    >>> bool(0.15 < found.norms[0] < 0.151)
    True
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0")

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 100,
        step_size: float | None = None,
        gamma: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, steps=steps, **kwargs)
        bounds: dict[str, Any] = {"low": 0.0, "low_open": True}
        self.step_size = step_size
        if step_size is not None:
            self.step_size = checked_number("FMN", "step_size", step_size, **bounds)
        self.gamma = checked_number("FMN", "gamma", gamma, **bounds, high=1.0)

    def objective(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the soft margin; see `Walk.objective`."""
        return soft_margin(logits, labels, targeted=self.targeted)

    def begin(self, images: tf.Tensor) -> State:
        """Returns the radius of the first ball."""
        radius = 1.0 if self.norm == "l0" else np.inf
        return {"radius": tf.fill([tf.shape(images)[0]], np.float32(radius))}

    def move(self, state: State, look: Look, taken: tf.Tensor, key: tf.Tensor) -> State:
        """Returns the points in their next balls; see `Walk.move`."""
        del key
        images, point = state["images"], state["point"]
        first, last = self.gamma, _LAST_GAMMA * self.gamma
        gamma = annealed(taken, self.steps, first, last)
        resize = self._count if self.norm == "l0" else self._radius
        radius = tf.minimum(resize(state, look, gamma), widest(images, self.norm))
        first = _LINF_STEP if self.norm == "linf" else 1.0
        if self.step_size is not None:
            first = self.step_size / self.value_range.span
        length = annealed(taken, self.steps, first, _LAST_STEP * first)
        moved = point + length * steepest_step(look.gradient, point, "l2")
        into = {"l0": _keep_few, "l2": _project_l2}.get(self.norm)
        if into is None:
            point = project(moved, images, radius, self.norm)
        else:
            point = into(moved, images, radius)
        return {**state, "point": point, "radius": radius}

    def _count(self, state: State, look: Look, gamma: tf.Tensor) -> tf.Tensor:
        """Returns how many values may change next."""
        count = state["radius"]
        fewer = tf.minimum(count - 1.0, tf.floor((1.0 - gamma) * count))
        fewer = tf.maximum(tf.minimum(fewer, state["nearest"]), 0.0)
        more = tf.maximum(count + 1.0, tf.floor((1.0 + gamma) * count))
        return tf.where(look.succeeds, fewer, more)

    def _radius(self, state: State, look: Look, gamma: tf.Tensor) -> tf.Tensor:
        """Returns the radius of the next ball."""
        radius, nearest = state["radius"], state["nearest"]
        norms = norm_per_image(state["point"] - state["images"], self.norm)
        reach = norms + plane_distance(look.gap, look.gradient, self.norm)
        missed = tf.where(nearest < np.inf, (1.0 + gamma) * radius, reach)
        shrunk = tf.minimum((1.0 - gamma) * radius, nearest)
        return tf.where(look.succeeds, shrunk, missed)


def _keep_few(moved: tf.Tensor, images: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns points of which only the largest changes are kept."""
    return tf.clip_by_value(images + keep_largest(moved - images, count), 0.0, 1.0)


def _project_l2(moved: tf.Tensor, images: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """Returns the nearest points in both the ball and `[0, 1]`.

    Scaled into the ball and clipped only then, they might end anywhere within it, and
    the walk might stop short of the boundary.
    """
    change = moved - images
    radius = per_image(radius, images)

    def cut(share: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(images + share * change, 0.0, 1.0) - images

    def halve(
        index: int | tf.Tensor, bracket: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        del index
        low, high = bracket
        middle = 0.5 * (low + high)
        fits = per_image(norm_per_image(cut(middle), "l2"), images) <= radius
        return tf.where(fits, middle, low), tf.where(fits, high, middle)

    is_inside = per_image(norm_per_image(cut(tf.ones_like(radius)), "l2"), images)
    bracket = tf.zeros_like(radius), tf.ones_like(radius)
    low, _ = fixed_loop(halve, bracket, _BISECTIONS, unroll=False)
    share = tf.where(is_inside <= radius, 1.0, low)
    return images + cut(share)
