"""Steps of APGD in the l1 ball: sparse steps, in balls that shrink to the real one."""

import tensorflow as tf

from keras_advdef.attacks._apgd_momentum import with_peak
from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.image_layout import flattened, value_count
from keras_advdef.core.norms import norm_per_image, per_image, project

# The radii, in epsilons, and the shares of the steps after which the next one begins.
_RADII = (3.0, 2.0, 1.0)
_ENDS = (0.3, 0.6)
_FIRST_DENSITY = 0.2
_SPARSER = 1.5
_SLOWER = 1.5
_SLOWEST = 10.0
_CHANGED = 0.95
_CHECK_SHARE = 0.04

MOVING = (
    "peak",
    "peak_gradient",
    "peak_loss",
    "density",
    "support",
    "step_size",
    "scale",
)


def init_state(state: State, epsilon: tf.Tensor) -> State:
    """Returns a state with what the schedule keeps of each image.

    Args:
        state: The state of a `GradientAttack`, its iterate in the first, largest ball.
        epsilon: Radius on the `[0, 1]` scale.

    Example:

    >>> from keras_advdef.attacks import _apgd_sparse as apgd_sparse
    >>> image = tf.zeros((1, 2))
    >>> state = {"iterate": image, "images": image, "best_loss": tf.zeros(1)}
    >>> apgd_sparse.init_state(state, tf.constant(1.0))["scale"].numpy()
    array([3.], dtype=float32)
    """
    zeros = tf.zeros_like(state["best_loss"])
    size = value_count(state["images"])
    return {
        **state,
        # Only points of the last, real ball may count.
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
        epsilon: Radius of the real one.

    Example:

    >>> float(keras_advdef.attacks._apgd_sparse.first_radius(tf.constant(2.0)))
    6.0
    """
    return _RADII[0] * epsilon


def step(
    state: State,
    losses: tf.Tensor,
    gradient: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
    steps: int,
) -> State:
    """Takes one step, or goes over to the next smaller ball.

    The step moves the largest gradients' pixels, fewer and fewer as the peak grows
    sparse (Croce and Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks
    on image classifiers", ICML).

    Args:
        state: The state, from `init_state` on.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.
        epsilon: Radius on the `[0, 1]` scale.
        taken: Steps taken before, float32, a scalar or `(batch,)`.
        steps: Steps of the attack.

    Returns:
        The state with its iterate moved.

    Example:

    >>> from keras_advdef.attacks import _apgd_sparse as apgd_sparse
    >>> half = tf.fill((1, 4), 0.5)
    >>> state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    >>> state = apgd_sparse.init_state(state, tf.constant(0.1))
    >>> state = apgd_sparse.step(
    ...     state, tf.constant([1.0]), tf.constant([[1.0, 4.0, 2.0, 3.0]]),
    ...     epsilon=tf.constant(0.1), taken=tf.constant(1.0), steps=100)
    >>> state["iterate"].numpy()
    array([[0.5, 0.8, 0.5, 0.5]], dtype=float32)
    """
    images = state["images"]
    state = {**with_peak(state, losses, gradient), "gradient": gradient}
    bounds = [tf.floor(tf.constant(end * steps)) for end in _ENDS]
    stage = sum(tf.cast(taken >= bound, tf.float32) for bound in bounds)
    scale = _RADII[0] - stage + tf.zeros_like(losses)
    radius = scale * epsilon
    every = float(max(int(_CHECK_SHARE * steps), 1))
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
    """Sets density and step size by what the peak looks like; see the paper."""
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
