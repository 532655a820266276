"""GradientAttack: ascent on an attack loss inside a ball; FGSM and PGD."""

import copy
import math
from typing import Any, ClassVar

import tensorflow as tf

from keras_advdef.attacks._attack_loss import attack_loss
from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._early_draws import REMEMBERED, remembering, steadied
from keras_advdef.attacks._first_iterate import STARTS, first_iterate
from keras_advdef.attacks._success import is_broken, stronger
from keras_advdef.attacks.attack import MODEL_ARGUMENTS, Passes
from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.attacks.stepped_attack import State, SteppedAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import (
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import (
    norm_per_image,
    per_image,
    project,
    steepest_step,
)
from keras_advdef.core.predictions import bound_logits
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

_TINY = 1e-12
# Entries of the state that a look at the model uses.
_SEEN = ("iterate", "labels", "rows", "reference")
# One of so many steps, the last ones, averages over all draws.
_LATE = 10


class GradientAttack(SteppedAttack):
    """Base of the attacks that maximise an attack loss by projected gradient steps.

    Each step follows the direction of steepest ascent in the norm, and is projected
    onto the ball and clipped to the pixel range. With `return_best` each image gets the
    strongest point on its path: misclassified points before others, then by loss.
    Otherwise it gets the last point, which saves one forward pass.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        step_size: Length of a step in the norm, in the units of `value_range`; `None`
            for the subclass's default.
        loss: What to maximise: "cross_entropy", "margin" (the logit margin), "dlr" (the
            margin, free of the scale of the logits), "targeted_dlr" (one run for each
            of the nine most likely wrong classes), "kl" (to the clean prediction) or an
            `AttackLoss`. Of labels that are probabilities, "cross_entropy" takes the
            whole row and the others the most likely class.
        random_start: Where to begin: True for uniform in the ball, False for the image,
            "gaussian" for a normal perturbation of standard deviation 0.001, "surface"
            for the surface of the ball, "unclipped" for uniform in the ball even where
            that leaves the range of pixels, as Wong et al. train on MNIST.
        momentum: Share of the last direction kept at each step; 0 for none, 1 in MIM.
        return_best: Whether to return the strongest point met instead of the last,
            which saves one forward pass.
        early_eot_samples: Draws of a random model for all but the last tenth of the
            steps, from 1 to `eot_samples`; `None` for `eot_samples` throughout. These
            steps follow a mean over the steps before, too, of which each keeps nine
            tenths. Only points of the last tenth are returned.
        **kwargs: `steps` and `restarts`, see `SteppedAttack`; `norm`, `targeted`,
            `training`, `precision`, `eot_samples` and `value_range`, see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> str(keras_advdef.attacks.PGD(0.3, steps=40))
    'PGD-40'
    """

    moving: ClassVar[tuple[str, ...]] = (
        *SteppedAttack.moving,
        "velocity",
        *REMEMBERED,
    )
    trace_arguments: ClassVar[dict[str, tuple[str, ...]]] = {
        "start": (
            *MODEL_ARGUMENTS,
            *("norm", "loss", "random_start", "momentum", "draws_vary"),
        ),
        "look": (*MODEL_ARGUMENTS, "loss", "targeted"),
        "glance": (*MODEL_ARGUMENTS, "loss", "targeted"),
        "move": ("norm", "return_best", "targeted"),
        "keep": ("norm", "targeted"),
        "pixels": ("norm", "value_range"),
    }
    # Tensors of compiled functions: the length of a step; before which step what few
    # draws have found is forgotten.
    fixed_step: tf.Tensor | None = None
    renewal: tf.Tensor | float | None = None

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        step_size: float | None = None,
        loss: str | AttackLoss = "cross_entropy",
        random_start: bool | str = True,
        momentum: float = 0.0,
        return_best: bool = True,
        early_eot_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **kwargs)
        owner = type(self).__name__
        if early_eot_samples is not None:
            name, bounds = "early_eot_samples", {"low": 1, "high": self.eot_samples}
            early_eot_samples = checked_integer(
                owner, name, early_eot_samples, **bounds
            )
        self.early_eot_samples = early_eot_samples
        self.step_size = step_size
        if step_size is not None:
            self.step_size = checked_number(
                owner, "step_size", step_size, low=0.0, low_open=True
            )
        self.loss = loss
        self._loss = attack_loss(owner, loss)
        self.takes_rows = self._loss.takes_rows
        if self.targeted and not self._loss.supports_targets:
            rule = "a loss of the labels when the attack is targeted"
            raise invalid(owner, "loss", rule, loss)
        self.random_start = checked_choice(owner, "random_start", random_start, STARTS)
        self.momentum = checked_number(owner, "momentum", momentum, low=0.0)
        self.return_best = bool(return_best)

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns the step for `step_size=None`, in the units of `epsilon`."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must write `default_step_size`."
        )

    def runs(self, classes: int) -> int:
        """Returns the restarts, times the targets of a loss that has several."""
        return self.restarts * self._loss.targets(classes)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        draws = sum(map(self.draws_at, range(self.steps)))
        ends = self.return_best or self.restarts > 1
        each = (draws + ends * self.eot_samples) * self._loss.forward_passes
        forward = self.runs(classes) * (each + self._loss.looks_at_clean)
        steps = draws + self._loss.backward_looks(classes)
        backward = self.runs(classes) * steps
        return Passes(forward + self._loss.aims, backward)

    def classes_of(self, logits_fn: LogitsFunction, images: tf.Tensor) -> int:
        """Returns the number of classes if the loss aims at one after the other."""
        return logits_fn(images).shape[-1] if self._loss.aims else 0

    @property
    def starts_clean(self) -> bool:
        """Whether the first look at the model is at the clean images."""
        return self.random_start is False

    @property
    def returns_last(self) -> bool:
        """Whether the result is the last point of a single run, never looked at."""
        return not self.return_best and self.restarts == 1

    def tensors(self, epsilon: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns attributes that compiled steps get as tensors.

        Args:
            epsilon: Radius on the `[0, 1]` scale.
        """
        step, momentum = (
            self.step_length(epsilon),
            tf.constant(self.momentum, tf.float32),
        )
        return {"fixed_step": step, "momentum": momentum, **self.renewal_tensor()}

    def renewal_tensor(self) -> dict[str, tf.Tensor]:
        """Returns `renewal` by name, where draws vary."""
        if not self.draws_vary:
            return {}
        return {"renewal": tf.constant(self.early_steps, tf.float32)}

    @property
    def early_steps(self) -> int:
        """Number of steps that average over `early_eot_samples`."""
        if self.early_eot_samples is None:
            return 0
        return self.steps - math.ceil(self.steps / _LATE)

    @property
    def draws_vary(self) -> bool:
        """Whether steps differ in the draws over which they average."""
        return self.early_steps > 0

    @property
    def renewal_step(self) -> tf.Tensor | float:
        """The step before which what few draws have found is forgotten."""
        return float(self.early_steps) if self.renewal is None else self.renewal

    def draws_at(self, taken: int) -> int:
        """Returns over how many draws a step averages after so many others."""
        if self.early_eot_samples is None or taken >= self.early_steps:
            return self.eot_samples
        return self.early_eot_samples

    def step_length(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns the length of a step for a radius, both on the `[0, 1]` scale."""
        if self.step_size is None:
            return self.default_step_size(epsilon)
        return tf.constant(self.step_size / self.value_range.span, tf.float32)

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
        key = fold_in(key, streams.GRADIENT_START)
        rows, labels = labels, sparse_labels(labels)
        with draw_scope(fold_in(key, 1)):
            reference = self._loss.prepare(logits_fn, images, labels, run)
        iterate = first_iterate(
            self.random_start, images, epsilon, norm=self.norm, key=key
        )
        iterate = logits_fn.confined(iterate)
        state = {
            "images": images,
            "labels": labels,
            "iterate": iterate,
            "best": iterate,
            "best_loss": tf.fill(tf.shape(labels), tf.float32.min),
            "broken": tf.zeros_like(labels, tf.bool),
        }
        if rows.shape.rank > 1:
            state["rows"] = rows
        if reference is not None:
            state["reference"] = reference
        if self.momentum:
            state["velocity"] = tf.zeros_like(images)
        return remembering(state) if self.draws_vary else state

    def step(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Looks at the current point and takes one step from it."""
        return self.move(state, self.slope(logits_fn, state, key), epsilon, taken)

    def looks_apart(self) -> bool:
        """Returns whether a step is a `slope` and a `move`, compiled one by one."""
        base, names = GradientAttack, ("step", "slope", "evaluate")
        return all(getattr(type(self), name) is getattr(base, name) for name in names)

    def seen(self, state: State) -> State:
        """Returns the part of the state that `slope` and `glance` use."""
        masked = ("images", "mask") * ("mask" in state)
        return {name: state[name] for name in (*_SEEN, *masked) if name in state}

    def move(
        self,
        state: State,
        slope: tuple[tf.Tensor, ...],
        epsilon: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state after a step from the current point, without the model.

        Args:
            state: The state before.
            slope: What `slope` returned for it.
            epsilon: Radius on the `[0, 1]` scale.
            taken: Steps taken before, float32, a scalar or `(batch,)`.
        """
        losses, probabilities, gradient = slope
        if "steady_loss" in state:
            state = self.renewed(state, taken == self.renewal_step)
            is_early = taken < self.renewal_step
            state, losses, gradient = steadied(
                state, losses, gradient, taken=taken, is_early=is_early
            )
        if self.return_best:
            state = self.keep(state, losses, probabilities)
        moved = self.update(state, losses, gradient, epsilon, taken)
        # A loss of NaN has no gradient: go half the way back to the clean image.
        back = 0.5 * (state["images"] + state["iterate"])
        is_lost = per_image(tf.math.is_nan(losses), back)
        return {**moved, "iterate": tf.where(is_lost, back, moved["iterate"])}

    def renewed(self, state: State, is_new: tf.Tensor) -> State:
        """Returns the state without what fewer draws have found.

        Args:
            state: The state.
            is_new: Whether steps of more draws begin, a scalar or `(batch,)`.
        """
        lowest = tf.where(is_new, tf.float32.min, state["best_loss"])
        return {**state, "best_loss": lowest, "broken": state["broken"] & ~is_new}

    def keep(self, state: State, losses: tf.Tensor, probabilities: tf.Tensor) -> State:
        """Returns the state with its best point compared with the current one.

        Args:
            state: The state.
            losses: Losses of the iterate, `(batch,)`.
            probabilities: Its probabilities, `(batch, classes)`.
        """
        broken = is_broken(probabilities, state["labels"], self.targeted)
        return self.keep_best(state, losses, broken)

    def keep_best(self, state: State, losses: tf.Tensor, broken: tf.Tensor) -> State:
        """Returns the state with its best point compared with the current one.

        Args:
            state: The state.
            losses: Losses of the iterate, `(batch,)`.
            broken: Whether the iterate succeeds, `(batch,)`.
        """
        new = state["iterate"], losses, broken
        old = state["best"], state["best_loss"], state["broken"]
        best, best_loss, broken = stronger(new, old)
        return {**state, "best": best, "best_loss": best_loss, "broken": broken}

    def update(
        self,
        state: State,
        losses: tf.Tensor,
        gradient: tf.Tensor,
        epsilon: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state with its iterate moved.

        Args:
            state: The state, its best point up to date.
            losses: Losses of the iterate, `(batch,)`.
            gradient: Their gradients.
            epsilon: Radius on the `[0, 1]` scale.
            taken: Steps taken before, float32, a scalar or `(batch,)`.
        """
        del losses, taken
        if "velocity" in state:
            size = per_image(norm_per_image(gradient, "l1"), gradient)
            gradient = gradient / tf.maximum(size, _TINY)
            gradient += self.momentum * state["velocity"]
            state = {**state, "velocity": gradient}
        step_size = self.fixed_step
        if step_size is None:
            step_size = self.step_length(epsilon)
        iterate = state["iterate"]
        direction = steepest_step(gradient, iterate, self.norm)
        moved = iterate + per_image(step_size, iterate) * direction
        moved = project(moved, state["images"], self.reach(epsilon), self.norm)
        return {**state, "iterate": moved}

    def losses(
        self, logits_fn: LogitsFunction, state: State, images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what to maximise, and the probabilities."""
        losses, logits = self._loss.with_logits(
            logits_fn,
            images,
            state.get("rows", state["labels"]),
            state.get("reference"),
        )
        losses = tf.cast(losses, tf.float32)
        losses = -losses if self.targeted else losses
        return losses, tf.nn.softmax(bound_logits(logits))

    def slope(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns loss, probabilities and gradient, averaged over `eot_samples`."""
        return mean_over_draws(
            lambda sample: self.look(logits_fn, state, fold_in(key, sample)),
            self.eot_samples,
        )

    def look(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns loss, probabilities and gradient of the current point, of one draw.

        Args:
            logits_fn: The attacked model.
            state: The state, or what `seen` returns of it.
            key: Key of the draw.
        """
        with draw_scope(key):
            return input_gradient(
                lambda images: self.losses(logits_fn, state, images),
                state["iterate"],
                scale=logits_fn.gradient_scale,
            )

    def evaluate(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> State:
        """Compares the current point with the best one; a forward pass."""
        losses, probabilities = mean_over_draws(
            lambda sample: self.glance(logits_fn, state, key, sample), self.eot_samples
        )
        return self.keep(state, losses, probabilities)

    def glance(
        self,
        logits_fn: LogitsFunction,
        state: State,
        key: tf.Tensor,
        sample: int | tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns loss and probabilities of the current point, of one draw.

        Args:
            logits_fn: The attacked model.
            state: The state, or what `seen` returns of it.
            key: Key of all draws.
            sample: Which draw.
        """
        with draw_scope(fold_in(fold_in(key, streams.LAST_POINT), sample)):
            return self.losses(logits_fn, state, state["iterate"])

    def repeat(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
        first: int = 0,
    ) -> State:
        """Returns the state `count` steps later, its last point not evaluated."""
        early = min(self.early_steps, count) if not first else 0
        if early:
            few = copy.copy(self)
            few.eot_samples, few.early_eot_samples = self.draws_at(0), None
            few.renewal = float(early)
            state = few.repeat(logits_fn, state, epsilon, key, early)
        later = count - early
        return super().repeat(logits_fn, state, epsilon, key, later, first + early)
