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

# Björck's step; beyond it singular values near one move away from it.
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
    """Steps from a kernel towards the nearest one with orthonormal rows or columns.

    After each step of the optimizer, `W <- (1 + beta) W - beta W W^T W`: a singular
    value `s` becomes `(1 + beta) s - beta s^3`, its singular vectors stay, and all
    values between 0 and `sqrt((1 + beta) / beta)` move towards 1, the small ones too.
    Slowly: from 0.5 to 0.99 takes 25 000 steps with `beta=1e-4` and 4 with 0.5, so
    start from an orthogonal kernel (`keras.initializers.Orthogonal`).

    The kernel is the matrix of shape `(-1, outputs)` of a `Dense` or `Conv2D` layer,
    `(-1, inputs)` of a `Conv2DTranspose`, or that of each channel of a
    `DepthwiseConv2D`; the groups of a grouped convolution count as one. A convolution
    whose matrix is orthonormal may still enlarge by the square root of its window,
    since a pixel enters so many places; `layers.ParsevalConv2D` divides by that.

    Weight decay works against it. An optimizer that shrinks the kernel by `learning
    rate * weight_decay` in each step makes the singular values settle near
    `sqrt(1 - learning_rate * weight_decay / beta)`, and at zero if that is no number:
    `AdversarialTrainingModel.fit` and `callbacks.SingularValues` refuse it. L2
    regularizers do the same and should be left out.

    Args:
        beta: Number above 0 and at most 0.5. Size of the step.
        steps: Integer of at least 1. Steps after each step of the optimizer.
        depthwise: Whether the kernel is that of a `DepthwiseConv2D`.

    Raises:
        ValueError: If an argument is out of its range, or the kernel has fewer than
            two axes, or not four where `depthwise` is set.
        TypeError: If `depthwise` is no `bool`.

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

    def __call__(self, w: Any) -> tf.Tensor:
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
    """Returns the matrix of a kernel, or with `depthwise` one for each channel.

    Args:
        kernel: Float tensor of at least two axes, outputs last.
        depthwise: Whether it is that of a `DepthwiseConv2D`.

    Returns:
        Tensor of shape `(-1, outputs)`, or `(channels, window, multiplier)`.

    Raises:
        ValueError: If the kernel has not so many axes.
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
