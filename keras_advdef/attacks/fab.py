"""FAB: projects onto the linearized decision boundary, again and again."""

import functools
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._boundary_step import (
    linearized_boundary,
    mean_logits,
    step_past,
)
from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.attacks._job import Job
from keras_advdef.attacks._whole_runs import run_nearest
from keras_advdef.attacks.attack import MODEL_ARGUMENTS, Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.attacks.stepped_attack import State, SteppedAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import norm_per_image, per_image, random_surface_point
from keras_advdef.core.predictions import (
    class_margins,
    logit_margin,
    most_likely_wrong,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

_RETREAT = 0.9
# Steps aim past the boundary by so many rounding margins; else some would fall short.
_MARGINS = 2.0
# Float32 rounding of the images must not cost a success at exactly epsilon.
_SLACK = 1.0 + 1e-6
# Arguments on which a step depends.
_TRACED = (
    *MODEL_ARGUMENTS,
    *("norm", "targeted", "eot_samples", "target_classes", "candidates"),
)


@keras.saving.register_keras_serializable(package="keras_advdef")
class FAB(MinimalAttack, SteppedAttack):
    """Fast adaptive boundary attack: the nearest point across the decision boundary.

    Each step linearizes the model at the iterate and projects both the iterate and the
    image onto the hyperplane where the label and another class tie, exactly within the
    pixel box. It then moves to a point between the two projections, slightly past the
    hyperplane (see `step_past`). A point across the boundary is kept if it is the
    nearest so far, and the iterate moves back towards the image by a tenth (Croce and
    Hein 2020, ICML). There is no step size, and the scale of the logits does not
    matter.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        steps: Steps of one run: two forward passes and one backward pass each.
        target_classes: `None` to step to the nearest of the candidates; or how many
            classes, the most likely wrong ones on the clean image, get a run of their
            own (FAB-T), at most all.
        candidates: The most likely wrong classes, of which a step goes to the nearest;
            a backward pass for each. All of a hundred led no nearer than these.
        **kwargs: `restarts` (the first run starts from the image, later ones from
            random points at half of epsilon, or of the best norm so far), `norm`,
            `targeted`, `training`, `precision` ("bfloat16" ends some 2 % further away),
            `eot_samples` and `value_range`; see `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.FAB(steps=10)
    >>> found = attack.search(model, images, [0], verbose=0)
    >>> bool(0.15 < found.norms[0] < 0.151)
    True
    """

    moving: ClassVar[tuple[str, ...]] = (*SteppedAttack.moving, "likely")
    trace_arguments: ClassVar[dict[str, tuple[str, ...]]] = {
        "start": (*_TRACED, "restarts"),
        "begin": (*_TRACED, "restarts"),
        "step": _TRACED,
        "settle": _TRACED,
    }
    # The projection holds a loop of its own.
    unroll: ClassVar[bool] = False

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 100,
        target_classes: int | None = None,
        candidates: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, steps=steps, **kwargs)
        is_coarse = self.precision == "bfloat16"
        self._least_margin = functools.partial(rounding_margin, is_coarse=is_coarse)
        integer = functools.partial(checked_integer, "FAB", low=1)
        self.candidates = integer("candidates", candidates)
        self.target_classes = target_classes
        if target_classes is not None:
            self.target_classes = integer("target_classes", target_classes)
            if self.targeted:
                rule = "None when the attack is targeted"
                raise invalid("FAB", "target_classes", rule, target_classes)

    def runs(self, classes: int) -> int:
        """Returns how many runs an unbroken image gets, of so many classes."""
        return self.restarts * self._targets(classes)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        is_one = self.targeted or self.target_classes
        planes = 1 if is_one else min(self.candidates, classes - 1)
        runs, steps = self.runs(classes), self.steps * self.eot_samples
        # One for the number of classes, and a look before and after.
        forward = runs * (2 * steps + 1) + 1 + 2 * self.eot_samples
        return Passes(forward, runs * steps * planes)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the nearest point of all runs; see `MinimalAttack.look_for`."""

        def run(
            index: int | tf.Tensor, best: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            key = fold_in(seed, index)
            radius, number = tf.minimum(epsilon, -best[1]), tf.cast(index, tf.int32)
            state = self.init_state(logits_fn, images, labels, radius, key, number)
            state = self.repeat(logits_fn, state, epsilon, key, self.steps)
            loss = state["best_loss"]
            if logits_fn.is_random:
                # The nearest of many points is one that was lucky for once.
                held = self.confirm(logits_fn, state["best"], labels, key)
                loss = tf.where(held, loss, tf.float32.min)
            nearer = loss > best[1]
            found = tf.where(per_image(nearer, images), state["best"], best[0])
            return found, tf.where(nearer, loss, best[1])

        none = images, tf.fill(tf.shape(labels), tf.float32.min)
        with draw_scope(fold_in(seed, streams.FAB_START)):
            runs = self.runs(logits_fn(images).shape[-1])
        return fixed_loop(run, none, runs, unroll=False)[0]

    def start(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state before the first step; images already wrong are done."""
        state = super().start(logits_fn, images, labels, epsilon, key, run)
        wrong = self.confirm(logits_fn, state["images"], labels, key)
        best_loss = tf.where(wrong, 0.0, state["best_loss"])
        return {**state, "best_loss": best_loss, "broken": wrong}

    def fill(self, job: Job, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills the job's result; with `stop_early` by the first within epsilon."""
        if stop_early and not np.isfinite(epsilon):
            raise invalid("FAB", "stop_early", "False without an epsilon", True)
        if stop_early:
            run_slots(self, job, epsilon)
        else:
            run_nearest(self, job, epsilon)

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state before the first step; see `SteppedAttack.init_state`."""
        key, count = (
            fold_in(key, streams.FAB_START),
            self.target_classes or self.candidates,
        )
        state = {
            "images": images,
            "labels": labels,
            "iterate": images,
            "best": images,
            "best_loss": tf.fill(tf.shape(labels), tf.float32.min),
            "broken": tf.zeros_like(labels, tf.bool),
        }
        with draw_scope(fold_in(key, 0)):
            logits = logits_fn(images)
        targets = self._targets(logits.shape[-1])
        state["likely"] = most_likely_wrong(logits, labels, count)
        if self.target_classes is not None:
            rank = tf.zeros_like(labels, tf.int64) + tf.cast(run, tf.int64) % targets
            state["likely"] = tf.gather(state["likely"], rank[:, None], batch_dims=1)
        if self.restarts > 1:
            widest = norm_per_image(tf.ones_like(images[:1]), self.norm)
            radius = 0.5 * tf.minimum(epsilon, widest)
            start = random_surface_point(fold_in(key, 1), images, radius, self.norm)
            start = logits_fn.confined(start)
            is_later = tf.broadcast_to(run >= targets, tf.shape(labels))
            state["iterate"] = tf.where(per_image(is_later, images), start, images)
        return state

    def _targets(self, classes: int) -> int:
        return min(self.target_classes or 1, classes - 1)

    def step(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state one step later; see `SteppedAttack.step`."""
        del taken
        images, iterate = state["images"], state["iterate"]
        plane = linearized_boundary(
            logits_fn,
            iterate,
            lambda logits: self._ahead(logits, state),
            key,
            samples=self.eot_samples,
            norm=self.norm,
        )
        iterate = step_past(plane, iterate, images, self.norm)
        checked = fold_in(key, streams.FAB_CHECK)
        logits = mean_logits(logits_fn, iterate, checked, samples=self.eot_samples)
        margins = logit_margin(logits, state["labels"], targeted=self.targeted)
        crossed = margins > self._least_margin(logits)
        norms = norm_per_image(iterate - images, self.norm)
        nearer = crossed & (norms <= epsilon * _SLACK) & (-norms > state["best_loss"])
        back = images + _RETREAT * (iterate - images)
        if self.target_classes is None:
            likely = most_likely_wrong(logits, state["labels"], self.candidates)
            state = {**state, "likely": likely}
        return {
            **state,
            "iterate": tf.where(per_image(crossed, images), back, iterate),
            "best": tf.where(per_image(nearer, images), iterate, state["best"]),
            "best_loss": tf.where(nearer, -norms, state["best_loss"]),
            "broken": state["broken"] | nearer,
        }

    def _ahead(self, logits: tf.Tensor, state: State) -> tf.Tensor:
        """Returns how far other classes are ahead, one of them or each in a column."""
        ahead = class_margins(logits, state["labels"], state["likely"])
        if self.targeted:
            ahead = logit_margin(logits, state["labels"], targeted=True)[:, tf.newaxis]
        return ahead - _MARGINS * self._least_margin(logits)[:, tf.newaxis]

    def __str__(self) -> str:
        return f"FAB-{self.steps}" + (f" x {self.restarts}" * (self.restarts > 1))
