"""SteppedAttack: base of the attacks that repeat a step inside a ball."""

from typing import Any, ClassVar

import tensorflow as tf

from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.attacks._job import Job
from keras_advdef.attacks._success import needs_confirmation, stronger
from keras_advdef.attacks._whole_runs import run_strongest
from keras_advdef.attacks.attack import Attack
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.norms import per_image
from keras_advdef.core.random_numbers import fold_in

# One entry per quantity; the first axis of each is the batch.
State = dict[str, tf.Tensor]


class SteppedAttack(Attack):
    """Base of attacks that repeat one step on a state for each image.

    A subclass writes `init_state`, `step` and, if its last point still needs a forward
    pass, `evaluate`. In return it can stop early: each row of the state belongs to one
    image and counts its own steps, so a waiting image can replace a broken one.

    Args:
        epsilon: Radius of the ball, in the units of `value_range`.
        steps: Steps of one run.
        restarts: Independent runs of each image; the strongest result counts, success
            before loss.
        **kwargs: `norm`, `targeted`, `training`, `precision`, `eot_samples` and
            `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> isinstance(keras_advdef.attacks.PGD(0.3), keras_advdef.attacks.SteppedAttack)
    True
    """

    # Entries of the state that change from step to step.
    moving: ClassVar[tuple[str, ...]] = ("iterate", "best", "best_loss", "broken")
    # Images may leave after so many steps.
    segment: ClassVar[int] = 10
    # Whether a few steps may be unrolled; not if a step holds a loop.
    unroll: ClassVar[bool] = True

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int,
        restarts: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **kwargs)
        owner = type(self).__name__
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.restarts = checked_integer(owner, "restarts", restarts, low=1)

    def runs(self, classes: int) -> int:
        """Returns how many runs an unbroken image gets.

        Args:
            classes: Number of classes of the model.
        """
        del classes
        return self.restarts

    def classes_of(self, logits_fn: LogitsFunction, images: tf.Tensor) -> int:
        """Returns the number of classes, or 0 where `runs` does not depend on it."""
        del logits_fn, images
        return 0

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state before the first step.

        Args:
            logits_fn: The attacked model.
            images: Clean images in `[0, 1]`.
            labels: Classes to leave or to reach, `(batch,)`.
            epsilon: Radius on the `[0, 1]` scale.
            key: Key for the draws.
            run: Which of the runs this is, int32, a scalar or `(batch,)`.

        Returns:
            A dictionary of tensors whose first axis is the batch, with "images",
            "labels" and what `moving` names.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `init_state`.")

    def step(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state one step later.

        Args:
            logits_fn: The attacked model.
            state: The state before.
            epsilon: Radius on the `[0, 1]` scale.
            key: Key for this step's draws.
            taken: Steps taken before, float32, a scalar or `(batch,)`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `step`.")

    def evaluate(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> State:
        """Returns the state with its best point compared with the current one."""
        del logits_fn, key
        return state

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""

        def run(index: int | tf.Tensor, key: tf.Tensor) -> State:
            number = tf.cast(index, tf.int32)
            state = self.init_state(logits_fn, images, labels, epsilon, key, number)
            return self.repeat(logits_fn, state, epsilon, key, self.steps)

        def once(index: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            key = fold_in(seed, index)
            state = self.evaluate(logits_fn, run(index, key), key)
            broken = state["broken"]
            if needs_confirmation(logits_fn):
                labels_here = state["labels"]
                broken = self.confirm(logits_fn, state["best"], labels_here, key)
            return state["best"], state["best_loss"], broken

        def repeat(
            index: int | tf.Tensor, strongest: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            return stronger(once(index + 1), strongest)

        if self.returns_last:
            return run(0, seed)["iterate"]
        runs = self.runs(self.classes_of(logits_fn, images))
        # Unrolled, the runs would be traced one by one, each with a loop inside.
        unroll = self.steps * runs <= self.segment
        return fixed_loop(repeat, once(0), runs - 1, unroll=unroll)[0]

    def start(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state of images that leave early; by default that of `begin`."""
        return self.begin(logits_fn, images, labels, epsilon, key, run)

    def begin(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state before the first step, for images in `value_range`."""
        unit = self.value_range.to_unit(images)
        state = self.init_state(logits_fn, unit, labels, epsilon, key, run)
        return {**state, "step": tf.zeros_like(state["labels"], tf.float32)}

    @property
    def starts_clean(self) -> bool:
        """Whether the first look at the model is at the clean images."""
        return False

    @property
    def returns_last(self) -> bool:
        """Whether the result is the last point of a single run, never looked at."""
        return False

    def looks_apart(self) -> bool:
        """Returns whether a step is a `slope` and a `move`, compiled one by one."""
        return False

    @property
    def draws_vary(self) -> bool:
        """Whether steps differ in the draws over which they average."""
        return False

    def where_due(self, is_due: tf.Tensor, moved: State, state: State) -> State:
        """Returns what moves: of rows that are due as it is now, of others as it was.

        Args:
            is_due: Whether each image still moves, `(batch,)`.
            moved: The state after a step.
            state: The state before.
        """
        kept = {}
        for name in self.moving:
            if name in state:
                wide = per_image(is_due, moved[name])
                kept[name] = tf.where(wide, moved[name], state[name])
        return kept

    def repeat(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
        first: int = 0,
    ) -> State:
        """Returns the state `count` steps later, its last point not evaluated.

        Args:
            logits_fn: The attacked model.
            state: The state before.
            epsilon: Radius on the `[0, 1]` scale.
            key: Key for the draws.
            count: Number of steps.
            first: Number of the first of them.
        """
        # Constants stay out of the loop.
        names = [name for name in self.moving if name in state]

        def body(
            index: int | tf.Tensor, values: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            current = {**state, **dict(zip(names, values, strict=True))}
            index += first
            taken = tf.cast(index, tf.float32)
            if "step" in state:
                taken += state["step"]
            moved = self.step(logits_fn, current, epsilon, fold_in(key, index), taken)
            if "step" in state:
                moved = self.where_due(taken < self.steps, moved, current)
            return tuple(moved[name] for name in names)

        values = tuple(state[name] for name in names)
        values = fixed_loop(body, values, count, unroll=self.unroll)
        return {**state, **dict(zip(names, values, strict=True))}

    def fill(self, job: Job, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills the job's result; with `stop_early` by the first success of each."""
        if stop_early:
            run_slots(self, job, epsilon)
        elif type(self).perturb is SteppedAttack.perturb:
            run_strongest(self, job, epsilon)
        else:
            job.craft_batches(epsilon)
