"""The passes that attacks cannot do without, in loops and nothing else.

The loops are Python's, over one compiled step. In the body of a `tf.while_loop` the
same passes are as fast at best, but of several instances of a loop more are slow.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

STEP_SIZE = 0.01


def gradient_loop(model: keras.Model, steps: int) -> Callable[..., tf.Tensor]:
    """Returns a loop of forward and input-gradient passes with a sign step.

    It has no random start, projection or bookkeeping.

    Args:
        model: The attacked model.
        steps: Number of passes.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            total = loss(labels, model(images, training=False))
        return images + STEP_SIZE * tf.sign(tape.gradient(total, images))

    def loop(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        for _ in range(steps):
            images = step(images, labels)
        return images

    return loop


def forward_loop(model: keras.Model, steps: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a loop of forward passes.

    Args:
        model: The attacked model.
        steps: Number of passes.
    """

    @tf.function
    def step(images: tf.Tensor) -> tf.Tensor:
        logits = model(images, training=False)
        return images + STEP_SIZE * tf.reshape(logits[:, 0], (-1, 1, 1, 1))

    def loop(images: tf.Tensor) -> tf.Tensor:
        for _ in range(steps):
            images = step(images)
        return images

    return loop


def bare_passes(
    model: keras.Model, *, gradients: int, forwards: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function that runs one loop after the other.

    Args:
        model: The attacked model.
        gradients: Forward and input-gradient passes.
        forwards: Forward passes.
    """
    first, second = gradient_loop(model, gradients), forward_loop(model, forwards)

    def run(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        moved = first(images, labels) if gradients else images
        return second(images) if forwards else moved

    return run
