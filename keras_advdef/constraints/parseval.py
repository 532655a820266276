"""Parseval: pulls the singular values of a kernel towards one."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import (
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)

# Björck's step; larger steps move singular values near one away from it.
_HIGHEST_BETA = 0.5


@defence(
    DefenceCard(
        summary="Keeps the singular values of every kernel near one.",
        category="robust training",
        paper="Cisse, Bojanowski, Grave, Dauphin, Usunier: Parseval Networks: "
        "Improving Robustness to Adversarial Examples, ICML 2017",
        claim="69.1 % accuracy on CIFAR-10 under one-step FGSM at a signal-to-noise "
        "ratio of 33 dB (about 2/255), against 67.2 % without the constraint; its "
        "authors ran no iterative attack.",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="a few matrix products per kernel and step",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class Parseval(keras.constraints.Constraint):
    """Moves a kernel towards the nearest one with orthonormal rows or columns.

    After each optimizer step, `W <- (1 + beta) W - beta W W^T W`. A singular value `s`
    becomes `(1 + beta) s - beta s^3`, and the singular vectors stay. All singular
    values between 0 and `sqrt((1 + beta) / beta)` move towards 1, but slowly: from 0.5
    to 0.99 takes 25 000 steps with `beta=1e-4` and 4 with `beta=0.5`. So start from an
    orthogonal kernel (`keras.initializers.Orthogonal`).

    The constrained matrix has shape `(-1, outputs)` for `Dense` and `Conv2D` and
    `(-1, inputs)` for `Conv2DTranspose`; a `DepthwiseConv2D` has one for each channel.
    All groups of a grouped convolution form one matrix. A convolution with an
    orthonormal matrix can still increase norms by the square root of its window size,
    since each pixel enters that many outputs; `layers.ParsevalConv2D` divides by it.

    Weight decay works against the constraint. If the optimizer shrinks the kernel by
    `learning_rate * weight_decay` per step, the singular values settle near
    `sqrt(1 - learning_rate * weight_decay / beta)`, or at zero if the root is not real;
    `AdversarialTrainingModel.fit` and `callbacks.SingularValues` raise an error then.
    L2 regularizers have the same effect, so do not use them.

    Args:
        beta: Number above 0 and at most 0.5. Step size.
        steps: Integer of at least 1. Steps after each optimizer step.
        depthwise: Whether the kernel belongs to a `DepthwiseConv2D`.

    Raises:
        ValueError: If an argument is out of range. In the call, if the kernel has fewer
            than two axes, or not four with `depthwise`.
        TypeError: If `depthwise` is not a `bool`.

    Example:

    >>> parseval = keras_advdef.constraints.Parseval(beta=0.1)
    >>> np.round(parseval(tf.constant([[1.0, 0.5], [0.0, 1.0]])), 4).tolist()
    [[0.9750000238418579, 0.4375], [-0.05000000074505806, 0.9750000238418579]]
    """

    def __init__(
        self, *, beta: float = 0.01, steps: int = 1, depthwise: bool = False
    ) -> None:
        owner = type(self).__name__
        self.beta = checked_number(
            owner, "beta", beta, low=0.0, high=_HIGHEST_BETA, low_open=True
        )
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.depthwise = checked_instance(owner, "depthwise", depthwise, bool)

    def __call__(self, w: tf.Tensor | keras.Variable) -> tf.Tensor:
        """Returns the kernel after the steps, of the same shape and dtype.

        Args:
            w: Float tensor or variable of at least two axes, outputs last.
        """
        kernel = tf.convert_to_tensor(w)
        matrices = tf.cast(kernel_matrices(kernel, depthwise=self.depthwise), "float32")
        for _ in range(self.steps):
            matrices = (1.0 + self.beta) * matrices - self.beta * _cubed(matrices)
        if self.depthwise:
            matrices = tf.transpose(matrices, (1, 0, 2))
        return tf.cast(tf.reshape(matrices, tf.shape(kernel)), kernel.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta, "steps": self.steps, "depthwise": self.depthwise}


def kernel_matrices(kernel: tf.Tensor, *, depthwise: bool) -> tf.Tensor:
    """Returns the matrix of a kernel; with `depthwise`, one for each channel.

    Args:
        kernel: Float tensor of at least two axes, outputs last.
        depthwise: Whether it belongs to a `DepthwiseConv2D`.

    Returns:
        Tensor of shape `(-1, outputs)`, or `(channels, window, multiplier)`.

    Raises:
        ValueError: If the kernel has too few axes, or not four with `depthwise`.
    """
    rank = kernel.shape.rank
    if rank < 2 or (depthwise and rank != 4):
        rule = "a kernel of four axes" if depthwise else "a kernel of at least two axes"
        raise invalid("Parseval", "w", rule, kernel)
    if not depthwise:
        return tf.reshape(kernel, (-1, kernel.shape[-1]))
    rows, columns, channels, multiplier = kernel.shape
    windows = tf.reshape(kernel, (rows * columns, channels, multiplier))
    return tf.transpose(windows, (1, 0, 2))


def _cubed(matrices: tf.Tensor) -> tf.Tensor:
    """Returns `W W^T W`, through the smaller of the two Gram matrices."""
    rows, columns = matrices.shape[-2:]
    if rows < columns:
        return tf.matmul(tf.matmul(matrices, matrices, transpose_b=True), matrices)
    return tf.matmul(matrices, tf.matmul(matrices, matrices, transpose_a=True))
