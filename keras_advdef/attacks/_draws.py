"""Expectation over transformation: means over a random model's draws."""

from collections.abc import Callable

import tensorflow as tf

from keras_advdef.core.loops import fixed_loop

# Each unrolled draw is a pass to trace and compile: ten of a variational network took
# minutes.
_WRITTEN_OUT = 3


def mean_over_draws(
    draw: Callable[[int | tf.Tensor], tuple[tf.Tensor, ...]], count: int
) -> tuple[tf.Tensor, ...]:
    """Returns the mean of what `draw(0), ..., draw(count - 1)` return.

    With gradients of the loss it is EOT, the attack of Athalye et al. (2018) on random
    defences.

    Args:
        draw: Function of the draw's index that returns a tuple of float tensors.
        count: Number of draws, at least 1.

    Returns:
        The tuple of means.

    Example:

    >>> keras_advdef.attacks._draws.mean_over_draws(
    ...     lambda index: (tf.cast(index, tf.float32),), 3)[0].numpy().item()
    1.0
    """
    first = draw(0)
    if count == 1:
        return first

    def add(
        index: int | tf.Tensor, sums: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        return tuple(a + b for a, b in zip(sums, draw(index + 1), strict=True))

    if tf.executing_eagerly():
        total = first
        for index in range(count - 1):
            total = add(index, total)
    else:
        unroll = count <= _WRITTEN_OUT
        total = fixed_loop(add, first, count - 1, unroll=unroll)
    return tuple(value / count for value in total)
