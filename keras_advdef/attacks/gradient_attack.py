"""GradientAttack: ascent on an attack loss inside a ball; FGSM and PGD."""

from typing import Any

import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.draws import mean_over_draws
from keras_advdef.attacks.loss_names import attack_loss
from keras_advdef.attacks.slots import run_slots
from keras_advdef.attacks.starts import STARTS, first_iterate
from keras_advdef.attacks.strongest import State, is_broken, remember, stronger
from keras_advdef.core.arguments import (
    checked_choice,
    checked_integer,
    checked_number,
)
from keras_advdef.core.errors import invalid
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import (
    norm_per_image,
    per_image,
    project,
    steepest_step,
)
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

_START = 2**30 + 1
_LAST = 2**30 + 2
_SEGMENT = 10
_TINY = 1e-12


class GradientAttack(Attack):
    """Base of the attacks that climb an attack loss by projected steps.

    Each step follows the steepest direction of the norm, is projected on the ball and
    clipped to the pixels. With `return_best` the strongest point met is returned for
    each image: a misclassified one before a classified one, then the one of larger
    loss. Without, it is the last point, and one forward pass is saved.

    Args:
        epsilon: Radius of the ball, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        steps: Gradient steps.
        step_size: Length of a step in the norm; `None` for the subclass's default.
        loss: "cross_entropy", "margin", "kl" or an `AttackLoss`.
        random_start: Where to begin: True for uniform in the ball, False for the
            image, "gaussian" for a tiny normal perturbation, "surface" for the
            surface of the ball.
        momentum: Share of the last direction kept (MIM); 0 for none.
        restarts: Independent repetitions; the strongest counts.
        return_best: Whether to return the strongest point met instead of the last.
        eot_samples: Draws of a random model over which gradients are averaged.
        targeted: Whether to reach `target_labels`.
        training: Whether the model is called as in training while crafting.
        value_range: Pair `(low, high)` in which the images lie.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> str(keras_advdef.attacks.PGD(0.3, steps=40))
    'PGD-40'
    """

    def __init__(
        self,
        epsilon: float | None,
        *,
        norm: str,
        steps: int,
        step_size: float | None,
        loss: Any,
        random_start: bool | str,
        momentum: float,
        restarts: int,
        return_best: bool,
        eot_samples: int,
        targeted: bool,
        training: bool,
        value_range: tuple[float, float],
    ) -> None:
        super().__init__(
            epsilon,
            norm=norm,
            value_range=value_range,
            targeted=targeted,
            training=training,
        )
        owner = type(self).__name__
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.step_size = step_size
        if step_size is not None:
            self.step_size = checked_number(
                owner, "step_size", step_size, low=0.0, low_open=True
            )
        self.loss = loss
        self._loss = attack_loss(owner, loss)
        if self.targeted and not self._loss.supports_targets:
            rule = "a loss of the labels when the attack is targeted"
            raise invalid(owner, "loss", rule, loss)
        self.random_start = checked_choice(owner, "random_start", random_start, STARTS)
        self.momentum = checked_number(owner, "momentum", momentum, low=0.0)
        self.restarts = checked_integer(owner, "restarts", restarts, low=1)
        self.return_best = bool(return_best)
        self.eot_samples = checked_integer(owner, "eot_samples", eot_samples, low=1)

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns the step for `step_size=None`, in the units of `epsilon`."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must write `default_step_size`."
        )

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""

        def once(index: Any) -> tuple[tf.Tensor, ...]:
            key = fold_in(seed, index)
            state = self._begin(logits_fn, images, labels, epsilon, key)
            state = self._climb(logits_fn, state, epsilon, key, self.steps)
            state = self._look(logits_fn, state, key)
            return state["best"], state["best_loss"], state["broken"]

        if not self.return_best and self.restarts == 1:
            state = self._begin(logits_fn, images, labels, epsilon, seed)
            state = self._climb(logits_fn, state, epsilon, seed, self.steps)
            return state["iterate"]

        def repeat(index: Any, strongest: tuple[tf.Tensor, ...]) -> Any:
            return stronger(once(index + 1), strongest)

        return fixed_loop(repeat, once(0), self.restarts - 1)[0]

    def start(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
    ) -> State:
        """Returns the state before the first step, for images in `value_range`."""
        unit = self.value_range.to_unit(images)
        state = self._begin(logits_fn, unit, labels, epsilon, key)
        return {**state, "step": tf.zeros_like(labels, tf.int32)}

    def advance(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
    ) -> State:
        """Returns the state some steps later; images out of steps stand still."""
        count = min(_SEGMENT, self.steps)
        state = self._climb(logits_fn, state, epsilon, key, count)
        state = self._look(logits_fn, state, key)
        return {**state, "step": state["step"] + count}

    def generate_until_broken(
        self, job: Any, epsilon: tf.Tensor, result: Any, progress: Any
    ) -> None:
        """Fills `result` with the first success of each image; see `generate`."""
        run_slots(self, job, epsilon, result, progress)

    def _begin(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
    ) -> State:
        key = fold_in(key, _START)
        with draw_scope(fold_in(key, 1)):
            reference = self._loss.reference(logits_fn, images, labels)
        iterate = first_iterate(
            self.random_start, images, epsilon, norm=self.norm, key=key
        )
        state = {
            "images": images,
            "labels": labels,
            "iterate": iterate,
            "best": iterate,
            "best_loss": tf.fill(tf.shape(labels), tf.float32.min),
            "broken": tf.zeros_like(labels, tf.bool),
        }
        if reference is not None:
            state["reference"] = reference
        if self.momentum:
            state["velocity"] = tf.zeros_like(images)
        return state

    def _climb(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
    ) -> State:
        """Takes `count` steps; the point they lead to is not looked at yet."""
        if self.step_size is None:
            step_size = self.default_step_size(epsilon)
        else:
            step_size = tf.constant(self.step_size / self.value_range.span, tf.float32)
        step_size = per_image(step_size, state["images"])
        # What stays the same is kept out of the loop.
        moving = ("iterate", "best", "best_loss", "broken", "velocity")
        names = [name for name in moving if name in state]

        def body(index: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
            current = {**state, **dict(zip(names, values, strict=True))}
            seen = self._slope(logits_fn, current, fold_in(key, index))
            if self.return_best:
                current = remember(current, *seen[:2])
            current = self._step(current, seen[2], epsilon, step_size)
            if "step" in state:
                taken = per_image(tf.cast(state["step"] + index, tf.float32), values[0])
                still = tf.where(taken < self.steps, current["iterate"], values[0])
                current = {**current, "iterate": still}
            return tuple(current[name] for name in names)

        values = fixed_loop(body, tuple(state[name] for name in names), count)
        return {**state, **dict(zip(names, values, strict=True))}

    def _step(
        self,
        state: State,
        gradient: tf.Tensor,
        epsilon: tf.Tensor,
        step_size: tf.Tensor,
    ) -> State:
        if self.momentum:
            size = per_image(norm_per_image(gradient, "l1"), gradient)
            gradient = gradient / tf.maximum(size, _TINY)
            gradient += self.momentum * state["velocity"]
            state = {**state, "velocity": gradient}
        iterate = state["iterate"]
        moved = iterate + step_size * steepest_step(gradient, iterate, self.norm)
        moved = project(moved, state["images"], epsilon, self.norm)
        return {**state, "iterate": moved}

    def _losses(
        self, logits_fn: LogitsFunction, state: State, images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what to maximise, and the probabilities."""
        losses, logits = self._loss.with_logits(
            logits_fn, images, state["labels"], state.get("reference")
        )
        losses = tf.cast(losses, tf.float32)
        return (-losses if self.targeted else losses), tf.nn.softmax(logits)

    def _slope(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns loss, success and gradient, averaged over `eot_samples` draws."""
        scale = logits_fn.gradient_scale

        def draw(sample: Any) -> tuple[tf.Tensor, ...]:
            with draw_scope(fold_in(key, sample)):
                return input_gradient(
                    lambda images: self._losses(logits_fn, state, images),
                    state["iterate"],
                    scale=scale,
                )

        losses, probabilities, gradient = mean_over_draws(draw, self.eot_samples)
        broken = is_broken(probabilities, state["labels"], self.targeted)
        return losses, broken, gradient

    def _look(self, logits_fn: LogitsFunction, state: State, key: tf.Tensor) -> State:
        """Compares the current point with the best one; a forward pass."""
        key = fold_in(key, _LAST)

        def draw(sample: Any) -> tuple[tf.Tensor, ...]:
            with draw_scope(fold_in(key, sample)):
                return self._losses(logits_fn, state, state["iterate"])

        losses, probabilities = mean_over_draws(draw, self.eot_samples)
        broken = is_broken(probabilities, state["labels"], self.targeted)
        return remember(state, losses, broken)
