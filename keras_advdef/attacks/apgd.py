"""APGD: PGD that chooses its own step size."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import MODEL_ARGUMENTS
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.image_layout import flattened, value_count
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image, project, steepest_step

_MOMENTUM = 0.75
_PROGRESS = 0.75
_FIRST_SHARE = 0.22
_SHRINK = 0.03
_SHORTEST = 0.06
_MOMENTUM_MOVING = (
    "previous",
    "peak",
    "peak_gradient",
    "peak_loss",
    "last_loss",
    "checked_loss",
    "increases",
    "reduced",
    "step_size",
)
# Radii in epsilons, and the shares of the steps after which the next one begins.
_RADII = (3.0, 2.0, 1.0)
_ENDS = (0.3, 0.6)
_FIRST_DENSITY = 0.2
_SPARSER = 1.5
_SLOWER = 1.5
_SLOWEST = 10.0
_CHANGED = 0.95
_CHECK_SHARE = 0.04
_SPARSE_MOVING = (
    "peak",
    "peak_gradient",
    "peak_loss",
    "density",
    "support",
    "step_size",
    "scale",
)


@keras.saving.register_keras_serializable(package="keras_advdef")
class APGD(GradientAttack):
    """Projected gradient ascent with momentum and a step size that halves by itself.

    Starts on the surface of the ball with steps of 2 epsilon. At checkpoints, ever
    closer together, an image whose loss rose in at most three of four steps returns to
    its best point with half the step size, so nothing needs tuning (Croce and Hein
    2020, ICML). In the l1 ball steps are sparse, without momentum, and start in balls
    of three and two epsilon (Croce and Hein 2021, ICML).

    With `early_eot_samples`, steps of few draws are never shorter than epsilon, except
    in the l1 ball.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        steps: Gradient steps of one run.
        **kwargs: `loss`, `restarts`, `norm`, `targeted`, `training`, `precision`,
            `eot_samples`, `early_eot_samples` and `value_range`; see
            `GradientAttack`, `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> images = np.full((1, 2, 2, 1), 0.5, "float32")
    >>> attack = keras_advdef.attacks.APGD(0.1, steps=5, loss="dlr")
    >>> adversarial = attack.generate(model, images, [0], seed=0, verbose=0)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    moving: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys((*GradientAttack.moving, *_MOMENTUM_MOVING, *_SPARSE_MOVING))
    )

    trace_arguments: ClassVar[dict[str, tuple[str, ...]]] = {
        "start": (*MODEL_ARGUMENTS, "norm", "loss", "draws_vary"),
        "move": ("norm", "targeted"),
        "keep": ("norm", "targeted"),
        "pixels": ("norm", "value_range"),
    }

    settled: ClassVar[dict[str, Any]] = {
        "step_size": None,
        "random_start": "surface",
        "momentum": 0.0,
        "return_best": True,
    }

    def __init__(
        self, epsilon: float | None = None, *, steps: int = 100, **kwargs: Any
    ) -> None:
        super().__init__(epsilon, steps=steps, **self.with_settled(kwargs))
        schedule = sparse_schedule if self.norm == "l1" else windows
        self._schedule = schedule(self.steps)

    def tensors(self, epsilon: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns attributes that compiled steps get as tensors."""
        del epsilon
        return {"_schedule": tf.constant(self._schedule), **self.renewal_tensor()}

    def renewed(self, state: State, is_new: tf.Tensor) -> State:
        """Returns the state without what fewer draws have found."""
        lowest = tf.where(is_new, tf.float32.min, state["peak_loss"])
        return {**super().renewed(state, is_new), "peak_loss": lowest}

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
        is_sparse = self.norm == "l1"
        radius = first_radius(epsilon) if is_sparse else epsilon
        state = super().init_state(logits_fn, images, labels, radius, key, run)
        schedule = sparse_state if is_sparse else momentum_state
        return schedule(state, epsilon)

    def keep_best(self, state: State, losses: tf.Tensor, broken: tf.Tensor) -> State:
        """Compares the current point with the best one, if it is in the last ball."""
        if self.norm == "l1":
            inside = state["scale"] <= 1.0
            losses = tf.where(inside, losses, tf.float32.min)
            broken &= inside
        return super().keep_best(state, losses, broken)

    def update(
        self,
        state: State,
        losses: tf.Tensor,
        gradient: tf.Tensor,
        epsilon: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state with its iterate moved; see `GradientAttack.step`."""
        if self.norm == "l1":
            return sparse_step(
                state,
                losses,
                gradient,
                epsilon=epsilon,
                taken=taken,
                schedule=self._schedule,
            )
        moved = momentum_step(
            state,
            losses,
            gradient,
            epsilon=epsilon,
            norm=self.norm,
            taken=taken,
            table=self._schedule,
        )
        if "steady_loss" in state:
            # A mean over steps lags behind the loss, so that it seems to stall.
            least = tf.where(taken < self.renewal_step, epsilon, 0.0)
            moved["step_size"] = tf.maximum(moved["step_size"], least)
        return moved

    def __str__(self) -> str:
        loss = self.loss if isinstance(self.loss, str) else type(self.loss).__name__
        restarts = f" x {self.restarts}" * (self.restarts > 1)
        return f"APGD-{self.steps} on {loss}{restarts}"


def windows(steps: int) -> np.ndarray:
    """Returns, for each step, how many steps a checkpoint there looks back on.

    Args:
        steps: Steps of the attack.

    Returns:
        Float32 array of length `steps`, zero where there is no checkpoint.

    Example:

    >>> from keras_advdef.attacks.apgd import windows
    >>> np.flatnonzero(windows(100)).tolist()
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    table = np.zeros(steps, np.float32)
    window = max(int(_FIRST_SHARE * steps), 1)
    place = window
    while place < steps:
        table[place] = window
        window = max(window - max(int(_SHRINK * steps), 1), int(_SHORTEST * steps), 1)
        place += window
    return table


def momentum_state(state: State, epsilon: tf.Tensor) -> State:
    """Returns the state with what the schedule keeps per image.

    Args:
        state: The state of a `GradientAttack`.
        epsilon: Radius on the `[0, 1]` scale.

    Example:

    >>> from keras_advdef.attacks import apgd
    >>> state = {"iterate": tf.zeros((1, 2)), "best_loss": tf.zeros(1)}
    >>> apgd.momentum_state(state, tf.constant(0.3))["step_size"].numpy()
    array([0.6], dtype=float32)
    """
    zeros = tf.zeros_like(state["best_loss"])
    lowest = tf.fill(tf.shape(zeros), tf.float32.min)
    return {
        **state,
        "previous": state["iterate"],
        "peak": state["iterate"],
        "peak_gradient": tf.zeros_like(state["iterate"]),
        "peak_loss": lowest,
        "last_loss": tf.fill(tf.shape(zeros), tf.float32.max),
        "checked_loss": lowest,
        "increases": zeros,
        # The first checkpoint goes by the count of increases alone.
        "reduced": tf.ones_like(zeros, tf.bool),
        "step_size": zeros + 2.0 * epsilon,
    }


def with_peak(state: State, losses: tf.Tensor, gradient: tf.Tensor) -> State:
    """Returns the state with its point of largest loss updated.

    Args:
        state: The state.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.

    Example:

    >>> from keras_advdef.attacks import apgd
    >>> state = {"iterate": tf.ones((1, 2)), "best_loss": tf.zeros(1)}
    >>> state = apgd.momentum_state(state, tf.constant(0.3))
    >>> state = apgd.with_peak(state, tf.constant([5.0]), tf.ones((1, 2)))
    >>> state["peak_loss"].numpy()
    array([5.], dtype=float32)
    """
    higher = losses > state["peak_loss"]
    wide = per_image(higher, gradient)
    return {
        **state,
        "peak": tf.where(wide, state["iterate"], state["peak"]),
        "peak_gradient": tf.where(wide, gradient, state["peak_gradient"]),
        "peak_loss": tf.where(higher, losses, state["peak_loss"]),
    }


def momentum_step(
    state: State,
    losses: tf.Tensor,
    gradient: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    norm: str,
    taken: tf.Tensor,
    table: np.ndarray | tf.Tensor,
) -> State:
    """Takes one step; at checkpoints the step size may halve.

    It halves, and the image returns to its peak, if at most three quarters of the last
    steps raised the loss, or if the peak has not moved since the last checkpoint, where
    the step size was kept.

    Args:
        state: The state, from `momentum_state` on.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.
        epsilon: Radius on the `[0, 1]` scale.
        norm: "linf" or "l2".
        taken: Steps taken before, float32, a scalar or `(batch,)`.
        table: What `windows` returned.

    Returns:
        The state with its iterate moved.

    Example:

    >>> from keras_advdef.attacks import apgd
    >>> half = tf.fill((1, 2), 0.5)
    >>> state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    >>> state = apgd.momentum_state(state, tf.constant(0.3))
    >>> state = apgd.momentum_step(
    ...     state, tf.constant([1.0]), tf.ones((1, 2)), epsilon=tf.constant(0.3),
    ...     norm="linf", taken=tf.constant(0.0), table=apgd.windows(100))
    >>> state["iterate"].numpy()
    array([[0.8, 0.8]], dtype=float32)
    """
    first = taken == 0.0
    state = with_peak(state, losses, gradient)
    increases = state["increases"] + tf.cast(losses > state["last_loss"], tf.float32)
    checked_loss = tf.where(first, losses, state["checked_loss"])
    # Images that have taken all steps stay, whatever is computed for them.
    place = tf.minimum(tf.cast(taken, tf.int32), tf.shape(table)[0] - 1)
    window = tf.gather(table, place)
    due = (window > 0.0) & tf.ones_like(state["reduced"])
    oscillates = increases <= _PROGRESS * window
    stalls = ~state["reduced"] & (state["peak_loss"] <= checked_loss)
    halve = due & (oscillates | stalls)
    wide = per_image(halve, gradient)
    iterate = tf.where(wide, state["peak"], state["iterate"])
    gradient = tf.where(wide, state["peak_gradient"], gradient)
    step_size = tf.where(halve, 0.5 * state["step_size"], state["step_size"])

    images = state["images"]
    direction = steepest_step(gradient, iterate, norm)
    target = iterate + per_image(step_size, images) * direction
    target = project(target, images, epsilon, norm)
    share = per_image(tf.where(first, 1.0, _MOMENTUM), images)
    moved = share * (target - iterate) + (1.0 - share) * (iterate - state["previous"])
    return {
        **state,
        "iterate": project(iterate + moved, images, epsilon, norm),
        "previous": iterate,
        "last_loss": losses,
        "checked_loss": tf.where(due, state["peak_loss"], checked_loss),
        "increases": tf.where(due, 0.0, increases),
        "reduced": tf.where(due, halve, state["reduced"]),
        "step_size": step_size,
    }


def sparse_schedule(steps: int) -> np.ndarray:
    """Returns when an attack in the l1 ball checks its step size and changes balls.

    Args:
        steps: Steps of the attack.

    Returns:
        Float32 array: the number of steps between two checks, and the step at which
        each but the first ball begins.

    Example:

    >>> keras_advdef.attacks.apgd.sparse_schedule(100).tolist()
    [4.0, 30.0, 60.0]
    """
    every = max(int(_CHECK_SHARE * steps), 1)
    return np.floor(np.array([every, *(end * steps for end in _ENDS)], np.float32))


def sparse_state(state: State, epsilon: tf.Tensor) -> State:
    """Returns the state with what the schedule keeps per image.

    Args:
        state: The state of a `GradientAttack`, its iterate in the first, largest ball.
        epsilon: Radius on the `[0, 1]` scale.

    Example:

    >>> from keras_advdef.attacks import apgd
    >>> image = tf.zeros((1, 2))
    >>> state = {"iterate": image, "images": image, "best_loss": tf.zeros(1)}
    >>> apgd.sparse_state(state, tf.constant(1.0))["scale"].numpy()
    array([3.], dtype=float32)
    """
    zeros = tf.zeros_like(state["best_loss"])
    size = value_count(state["images"])
    return {
        **state,
        # Only points of the last ball count.
        "best": state["images"],
        "peak": state["iterate"],
        "peak_gradient": tf.zeros_like(state["iterate"]),
        "peak_loss": tf.fill(tf.shape(zeros), tf.float32.min),
        "density": zeros + _FIRST_DENSITY,
        "support": zeros + size,
        "step_size": zeros + _RADII[0] * epsilon,
        "scale": zeros + _RADII[0],
    }


def first_radius(epsilon: tf.Tensor) -> tf.Tensor:
    """Returns the radius of the first ball.

    Args:
        epsilon: Radius of the last ball.

    Example:

    >>> float(keras_advdef.attacks.apgd.first_radius(tf.constant(2.0)))
    6.0
    """
    return _RADII[0] * epsilon


def sparse_step(
    state: State,
    losses: tf.Tensor,
    gradient: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
    schedule: np.ndarray | tf.Tensor,
) -> State:
    """Takes one step, or moves on to the next smaller ball.

    The step moves the pixels of the largest gradients, fewer as the peak grows sparse
    (Croce and Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", ICML).

    Args:
        state: The state, from `sparse_state` on.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.
        epsilon: Radius on the `[0, 1]` scale.
        taken: Steps taken before, float32, a scalar or `(batch,)`.
        schedule: What `sparse_schedule` returned.

    Returns:
        The state with its iterate moved.

    Example:

    >>> from keras_advdef.attacks import apgd
    >>> half = tf.fill((1, 4), 0.5)
    >>> state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    >>> state = apgd.sparse_state(state, tf.constant(0.1))
    >>> state = apgd.sparse_step(
    ...     state, tf.constant([1.0]), tf.constant([[1.0, 4.0, 2.0, 3.0]]),
    ...     epsilon=tf.constant(0.1), taken=tf.constant(1.0),
    ...     schedule=apgd.sparse_schedule(100))
    >>> state["iterate"].numpy()
    array([[0.5, 0.8, 0.5, 0.5]], dtype=float32)
    """
    images = state["images"]
    state = {**with_peak(state, losses, gradient), "gradient": gradient}
    every, *bounds = tf.unstack(schedule, len(_ENDS) + 1)
    stage = sum(tf.cast(taken >= bound, tf.float32) for bound in bounds)
    scale = _RADII[0] - stage + tf.zeros_like(losses)
    radius = scale * epsilon
    due = (tf.math.floormod(taken, every) == 0.0) & (taken > 0.0)
    state = _checked(state, due & tf.ones_like(losses, tf.bool), radius)

    goes_over = scale < state["scale"]
    wide = per_image(goes_over, images)
    iterate, slope = state["iterate"], state["gradient"]
    moved = iterate + per_image(state["step_size"], images) * _sparse(slope, state)
    moved = project(tf.where(wide, state["peak"], moved), images, radius, "l1")
    size = value_count(images)
    support = norm_per_image(moved - images, "l0")
    lowest = tf.fill(tf.shape(losses), tf.float32.min)
    return {
        **state,
        "iterate": moved,
        "peak_loss": tf.where(goes_over, lowest, state["peak_loss"]),
        "density": tf.where(goes_over, support / size / _SPARSER, state["density"]),
        "support": tf.where(goes_over, support, state["support"]),
        "step_size": tf.where(goes_over, radius, state["step_size"]),
        "scale": scale,
    }


def _checked(state: State, due: tf.Tensor, radius: tf.Tensor) -> State:
    """Sets density and step size by the support of the peak; see the paper."""
    images = state["images"]
    size = value_count(images)
    support = norm_per_image(state["peak"] - images, "l0")
    sparser = due & (support < _CHANGED * state["support"])
    slower = tf.maximum(state["step_size"] / _SLOWER, radius / _SLOWEST)
    wide = per_image(sparser, images)
    step_size = tf.where(sparser, radius, tf.where(due, slower, state["step_size"]))
    return {
        **state,
        "density": tf.where(due, support / size / _SPARSER, state["density"]),
        "support": tf.where(due, support, state["support"]),
        "step_size": step_size,
        "iterate": tf.where(wide, state["peak"], state["iterate"]),
        "gradient": tf.where(wide, state["peak_gradient"], state["gradient"]),
    }


def _sparse(gradient: tf.Tensor, state: State) -> tf.Tensor:
    """Returns signs of the largest gradients, as a vector of l1 norm one."""
    size = value_count(gradient)
    sizes = flattened(tf.abs(gradient))
    ranked = tf.sort(sizes, direction="DESCENDING")
    rank = tf.clip_by_value(tf.floor(state["density"] * size) - 1.0, 0.0, size - 1.0)
    least = tf.gather(ranked, tf.cast(rank, tf.int32), batch_dims=1)
    large = tf.abs(gradient) >= per_image(least, gradient)
    signs = tf.where(large, tf.sign(gradient), 0.0)
    count = per_image(norm_per_image(signs, "l1"), gradient)
    return signs / tf.maximum(count, 1.0)
