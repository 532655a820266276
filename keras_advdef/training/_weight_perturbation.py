"""Adversarial weight perturbation (Wu, Xia, Wang, NeurIPS 2020).

Training at weights that were moved to where the loss is larger flattens the loss around
the weights found, which helps against robust overfitting.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_advdef.core.random_stream import preserve_variables
from keras_advdef.training._replicas import assign_on_replicas


@contextlib.contextmanager
def perturbed_weights(
    variables: Sequence[keras.Variable], loss: Callable[[], tf.Tensor], size: float
) -> Iterator[None]:
    """Moves each kernel up the loss for the body, then puts back the very same values.

    Kernels are the variables of more than one dimension, so neither biases nor those of
    BatchNorm. Each moves by `size` times its own norm along its gradient. The pass that
    finds the gradient leaves no trace: no moving statistics, random states or metrics.

    All replicas of a strategy move by the gradient of the whole batch: mirrored weights
    stay equal, and the step is that of one device.

    Args:
        variables: Trainable variables of the model.
        loss: Gives the loss of the batch, scaled or not.
        size: The gamma of the paper.
    """
    kernels = [each for each in variables if len(each.shape) > 1]
    if not kernels:
        yield
        return
    values = [tf.convert_to_tensor(each) for each in kernels]
    gradients = _gradients(variables, kernels, values, loss)
    moved = [
        value + _perturbation(value, gradient, size)
        for value, gradient in zip(values, gradients, strict=True)
    ]
    _assign(kernels, moved)
    try:
        yield
    finally:
        _assign(kernels, values)


def _gradients(
    variables: Sequence[keras.Variable],
    kernels: Sequence[keras.Variable],
    values: Sequence[tf.Tensor],
    loss: Callable[[], tf.Tensor],
) -> list[tf.Tensor]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        # In such a scope Keras's regularizers see mapped variables only.
        kept = {id(each): (each, tf.convert_to_tensor(each)) for each in variables}
        for variable, value in zip(kernels, values, strict=True):
            kept[id(variable)] = (variable, value)
        with preserve_variables(list(kept.values()), collect_losses=True):
            total = loss()
    gradients = tape.gradient(total, values, unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(each) for each in gradients]
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    return gradients


def _perturbation(value: tf.Tensor, gradient: tf.Tensor, size: float) -> tf.Tensor:
    """Returns a step along a gradient, `size` times as long as the value."""
    gradient = tf.cast(gradient, tf.float32)
    # Squares of a tiny or a scaled gradient would leave float32.
    largest = tf.reduce_max(tf.abs(gradient))
    direction = tf.math.divide_no_nan(gradient, largest)
    length = size * tf.norm(tf.cast(value, tf.float32))
    step = tf.math.divide_no_nan(length, tf.norm(direction)) * direction
    # An overflow in half precision lets the optimizer skip the step, and no more.
    return tf.cast(tf.where(tf.math.is_finite(largest), step, 0.0), value.dtype)


def _assign(variables: Sequence[keras.Variable], values: list[tf.Tensor]) -> None:
    written = [each.value for each in variables]

    def assign(strategy: tf.distribute.Strategy, values: list[tf.Tensor]) -> None:
        assign_on_replicas(strategy, written, values)

    # One replica alone cannot write what all of them share.
    tf.distribute.get_replica_context().merge_call(assign, args=(values,))
