"""A loop of fixed length that XLA compiles and gradients pass through."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Unrolled, a short loop saves a third of a training step; a long one costs many
# times its run time in tracing.
_LONGEST_UNROLLED = 10


def fixed_loop(
    body: Callable[[Any, Any], Any],
    state: tuple[Any, ...],
    steps: int,
    *,
    unroll: bool = True,
) -> tuple[Any, ...]:
    """Runs `state = body(index, state)` a fixed number of times.

    Args:
        body: Function of the step's index, a number or an int32 scalar, and the
            state; returns a state of the same structure, shapes and dtypes.
        state: Tuple of tensors.
        steps: Number of steps, a Python integer of at least 0.
        unroll: Whether a short loop is written out; False where the body holds a
            loop of its own.

    Returns:
        The final state.

    Example:

    >>> keras_advdef.core.loops.fixed_loop(
    ...     lambda index, state: (state[0] * 2,), (tf.constant(1),), 10)[0].numpy()
    np.int32(1024)
    """
    if steps <= (_LONGEST_UNROLLED if unroll else 0):
        for index in range(steps):
            state = body(index, state)
        return state

    def step(index: tf.Tensor, current: tuple[Any, ...]) -> tuple[Any, Any]:
        moved = body(index, current)
        return index + 1, tf.nest.map_structure(_shaped_alike, moved, current)

    _, state = tf.while_loop(
        lambda index, current: index < steps,
        step,
        (tf.constant(0), state),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return state


def _shaped_alike(new: Any, old: Any) -> Any:
    """Returns a tensor with the static shape of another.

    A `tf.function` in the loop may know less: it prefers an old trace for batches of
    any size to a new one.
    """
    if tf.is_tensor(new):
        new.set_shape(old.shape)
    return new
