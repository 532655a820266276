"""The passes that attacks cannot do without, in loops and nothing else.

The loops are Python's, over one compiled step. In the body of a `tf.while_loop` the
same passes are as fast at best, but of several instances of a loop more are slow.
"""

from collections.abc import Callable
from typing import Any

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


def training_loop(
    model: keras.Model,
    batches: tf.data.Dataset,
    losses: Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor],
    *,
    craft: Callable[[tf.Tensor, tf.Tensor], Any] = lambda images, labels: None,
) -> Callable[[], float]:
    """Returns one epoch of a training step written by hand, without Keras's `fit`.

    Args:
        model: The trained model.
        batches: Images and labels.
        losses: Gives the loss of each image from images, labels and what was crafted.
        craft: Makes of images and labels what no gradient passes.
    """
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    mean = keras.metrics.Mean()

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        crafted = craft(images, labels)
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(losses(images, labels, crafted))
        gradients = tape.gradient(value, model.trainable_variables)
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients(pairs)
        mean.update_state(value)

    def loop() -> float:
        for images, labels in batches:
            step(images, labels)
        return float(mean.result())

    return loop
