"""A loop of fixed length that XLA compiles and gradients can pass through."""

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

State = TypeVar("State", bound=tuple[Any, ...])

# Unrolling a short loop saves a third of a training step. Tracing a long one would take
# many times its run time.
_LONGEST_UNROLLED = 10


def fixed_loop(
    body: Callable[[Any, Any], State],
    state: State,
    steps: int,
    *,
    unroll: bool = True,
) -> State:
    """Runs `state = body(index, state)` a fixed number of times.

    Args:
        body: Function of the step index (an integer or int32 scalar) and the state.
            Returns a state of the same structure, shapes and dtypes.
        state: Tuple of tensors.
        steps: Number of steps, a Python integer of at least 0.
        unroll: Whether to unroll a short loop; False if the body contains a loop.

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

    def step(index: tf.Tensor, current: State) -> tuple[tf.Tensor, State]:
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
    """Gives a tensor the static shape of another.

    A `tf.function` in the loop may lose it, because it reuses a trace for batches of
    any size.
    """
    if tf.is_tensor(new):
        new.set_shape(old.shape)
    return new
