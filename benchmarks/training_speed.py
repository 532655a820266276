"""A PGD-7 adversarial training step against the same step written by hand.

python benchmarks/training_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from madry_network import madry_network, noise
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.attacks import PGD
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 0.3
ATTACK_STEPS = 7
STEP_SIZE = 2.5 * EPSILON / ATTACK_STEPS
BATCH_SIZE = 128
TRAINING_STEPS = 8
LIMIT = 1.10


def cross_entropy() -> keras.losses.Loss:
    """Returns the loss with which all candidates train and attack."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def craft(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns PGD-7 images, written as one would by hand; the steps are unrolled."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    low = tf.maximum(images - EPSILON, 0.0)
    high = tf.minimum(images + EPSILON, 1.0)
    noise = tf.random.uniform(tf.shape(images), -EPSILON, EPSILON)
    adversarial = tf.clip_by_value(images + noise, 0.0, 1.0)
    for _ in range(ATTACK_STEPS):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adversarial)
            total = loss(labels, model(adversarial, training=False))
        moved = adversarial + STEP_SIZE * tf.sign(tape.gradient(total, adversarial))
        adversarial = tf.clip_by_value(moved, low, high)
    return tf.stop_gradient(adversarial)


class HandWritten(keras.Model):
    """The same training step as a `keras.Model` subclass."""

    def __init__(self, classifier: keras.Model) -> None:
        super().__init__()
        self.classifier = classifier
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        return self.classifier(images, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one step."""
        images, labels = data
        adversarial = craft(self.classifier, images, labels)
        with tf.GradientTape() as tape:
            logits = self.classifier(adversarial, training=True)
            loss = self.compute_loss(adversarial, labels, logits)
        self._loss_tracker.update_state(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self.compute_metrics(images, labels, logits)


def bare_loop(batches: tf.data.Dataset) -> Callable[[], Any]:
    """Returns a loop of hand-written steps over batches, without Keras's `fit`."""
    model, loss = madry_network(), cross_entropy()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    mean = keras.metrics.Mean()
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        adversarial = craft(model, images, labels)
        with tf.GradientTape() as tape:
            logits = model(adversarial, training=True)
            value = loss(labels, logits)
        gradients = tape.gradient(value, model.trainable_variables)
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients(pairs)
        mean.update_state(value)
        accuracy.update_state(labels, logits)

    def loop() -> tuple[float, float]:
        for images, labels in batches:
            step(images, labels)
        return float(mean.result()), float(accuracy.result())

    return loop


def fit(model: keras.Model, batches: tf.data.Dataset, **options: Any) -> Any:
    """Returns a function that runs one epoch of `fit`."""
    model.compile(keras.optimizers.Adam(), cross_entropy(), **options)
    return lambda: model.fit(batches, verbose=0, shuffle=False)


def candidates(*, steps: int, batch_size: int) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, the bare loop first."""
    data = tf.data.Dataset.from_tensor_slices(noise(batch_size)).repeat(steps)
    batches = data.batch(batch_size, drop_remainder=True).prefetch(2)
    timed = {
        "bare loop": bare_loop(batches),
        "hand-written `train_step`, fit": fit(
            HandWritten(madry_network()), batches, metrics=["accuracy"]
        ),
    }
    for return_best in (False, True):
        attack = PGD(EPSILON, steps=ATTACK_STEPS, return_best=return_best)
        model = AdversarialTrainingModel(madry_network(), attack)
        timed[f"PGD, return_best={return_best}, fit"] = fit(model, batches)
    return timed


def main() -> None:
    """Times the steps and prints the table."""
    arguments = parse_arguments("PGD-7 adversarial training step", rounds=7)
    steps, batch_size = (2, 8) if arguments.smoke else (TRAINING_STEPS, BATCH_SIZE)
    build = functools.partial(candidates, steps=steps, batch_size=batch_size)
    seconds = interleave(build, rounds=arguments.rounds)
    print_report(
        f"PGD-{ATTACK_STEPS} adversarial training step, batches of {batch_size}",
        RATIO_HEADER,
        ratio_rows(seconds, per=steps, limits=dict.fromkeys(list(seconds)[2:], LIMIT)),
        notes=f"The Madry MNIST network, {arguments.rounds} interleaved rounds of "
        f"{steps} steps. All candidates attack with 7\nsteps from a random start, "
        "update with Adam, and track the loss and the accuracy on the adversarial\n"
        "images. The bare loop runs a `tf.function` over the same `tf.data`; ratios "
        "are relative to it.",
    )


if __name__ == "__main__":
    main()
