"""Steps of APGD in the linf and l2 ball: momentum, and a step size that halves."""

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.norms import per_image, project, steepest_step

_MOMENTUM = 0.75
_PROGRESS = 0.75
_FIRST_SHARE = 0.22
_SHRINK = 0.03
_SHORTEST = 0.06


def windows(steps: int) -> np.ndarray:
    """Returns, for each number of steps, how many a checkpoint there looks back on.

    Args:
        steps: Steps of the attack.

    Returns:
        Float32 array of length `steps`, zero where there is no checkpoint.

    Example:

    >>> from keras_advdef.attacks._apgd_momentum import windows
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


def init_state(state: State, epsilon: tf.Tensor) -> State:
    """Returns a state with what the schedule keeps of each image.

    Args:
        state: The state of a `GradientAttack`.
        epsilon: Radius on the `[0, 1]` scale.

    Example:

    >>> from keras_advdef.attacks import _apgd_momentum as apgd_momentum
    >>> state = {"iterate": tf.zeros((1, 2)), "best_loss": tf.zeros(1)}
    >>> apgd_momentum.init_state(state, tf.constant(0.3))["step_size"].numpy()
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
        # At the first checkpoint only the count of increases decides.
        "reduced": tf.ones_like(zeros, tf.bool),
        "step_size": zeros + 2.0 * epsilon,
    }


MOVING = (
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


def with_peak(state: State, losses: tf.Tensor, gradient: tf.Tensor) -> State:
    """Returns the state with its point of largest loss updated by the current one.

    Args:
        state: The state.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.

    Example:

    >>> from keras_advdef.attacks import _apgd_momentum as apgd_momentum
    >>> state = {"iterate": tf.ones((1, 2)), "best_loss": tf.zeros(1)}
    >>> state = apgd_momentum.init_state(state, tf.constant(0.3))
    >>> state = apgd_momentum.with_peak(state, tf.constant([5.0]), tf.ones((1, 2)))
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


def step(
    state: State,
    losses: tf.Tensor,
    gradient: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    norm: str,
    taken: tf.Tensor,
    table: np.ndarray,
) -> State:
    """Takes one step; at checkpoints the step size may halve.

    It halves, and the image goes back to its peak, when at most three quarters of the
    last steps raised the loss, or when the peak is that of the last checkpoint and the
    step size was kept there.

    Args:
        state: The state, from `init_state` on.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.
        epsilon: Radius on the `[0, 1]` scale.
        norm: "linf" or "l2".
        taken: Steps taken before, float32, a scalar or `(batch,)`.
        table: What `windows` returned.

    Returns:
        The state with its iterate moved.

    Example:

    >>> from keras_advdef.attacks import _apgd_momentum as apgd_momentum
    >>> half = tf.fill((1, 2), 0.5)
    >>> state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    >>> state = apgd_momentum.init_state(state, tf.constant(0.3))
    >>> state = apgd_momentum.step(
    ...     state, tf.constant([1.0]), tf.ones((1, 2)), epsilon=tf.constant(0.3),
    ...     norm="linf", taken=tf.constant(0.0), table=apgd_momentum.windows(100))
    >>> state["iterate"].numpy()
    array([[0.8, 0.8]], dtype=float32)
    """
    first = taken == 0.0
    state = with_peak(state, losses, gradient)
    increases = state["increases"] + tf.cast(losses > state["last_loss"], tf.float32)
    checked_loss = tf.where(first, losses, state["checked_loss"])
    # Images out of steps stand still, whatever is computed for them.
    place = tf.minimum(tf.cast(taken, tf.int32), len(table) - 1)
    window = tf.gather(tf.constant(table), place)
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
