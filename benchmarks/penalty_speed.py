"""Training steps with penalties against a plain step, and against hand-written ones.

python benchmarks/penalty_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from bare_loops import training_loop
from madry_network import madry_network, noise
from timing import interleave, parse_arguments, print_report, verdict

from keras_advdef.objectives import CrossLipschitz, DeepDefense
from keras_advdef.training import AdversarialTrainingModel

BATCH_SIZE, TRAINING_STEPS = 64, 2
CLASSES = 10
WEIGHT = 0.01
DEEP_FOOL_STEPS, OVERSHOOT = 5, 1.02
BY_HAND_LIMIT = 1.10
Step = Callable[[keras.Model, tf.Tensor, tf.Tensor], Any]


def no_penalty(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> float:
    """Returns zero."""
    del model, images, labels
    return 0.0


def slopes_of(model: keras.Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns logits and their gradients, one backward pass for each class."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = model(images, training=False)
        sums = tf.unstack(tf.reduce_sum(logits, axis=0))
    return logits, tf.stack([tape.gradient(each, images) for each in sums], axis=1)


def cross_lipschitz(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """Returns the exact regulariser by the classes' gradients."""
    del labels
    _, slopes = slopes_of(model, images)
    slopes -= tf.reduce_mean(slopes, axis=1, keepdims=True)
    return 2.0 * WEIGHT / CLASSES * tf.reduce_sum(slopes**2, axis=[1, 2, 3, 4])


def projected_cross_lipschitz(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """Returns the estimate by one random mixture of the logits."""
    del labels
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images, training=False)
        draws = tf.random.normal(tf.shape(logits))
        draws -= tf.reduce_mean(draws, axis=1, keepdims=True)
        mixture = tf.reduce_sum(draws * logits)
    slope = tape.gradient(mixture, images)
    return 2.0 * WEIGHT / CLASSES * tf.reduce_sum(slope**2, axis=[1, 2, 3])


def deep_defense(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the penalty through five unrolled steps of DeepFool."""
    first = tf.argmax(model(images, training=False), axis=-1)
    is_right, is_label = first == labels, tf.one_hot(labels, CLASSES) > 0
    total, active = tf.zeros_like(images), tf.ones_like(is_right)
    for _ in range(DEEP_FOOL_STEPS):
        logits, slopes = slopes_of(model, images + total)
        base = tf.where(is_right, labels, tf.argmax(logits, axis=-1))
        gaps = tf.abs(logits - tf.gather(logits, base[:, None], batch_dims=1))
        slopes -= tf.gather(slopes, base[:, None], batch_dims=1)
        lengths = tf.sqrt(tf.reduce_sum(slopes**2, axis=[2, 3, 4]) + 1e-20)
        allowed = tf.where((base == labels)[:, None], ~is_label, is_label)
        distances = tf.where(allowed, gaps / lengths, np.inf)
        nearest = tf.argmin(distances, axis=1)
        size = tf.gather(gaps / lengths**2, nearest, batch_dims=1)
        step = size[:, None, None, None] * tf.gather(slopes, nearest, batch_dims=1)
        total += tf.where(active[:, None, None, None], step, 0.0)
        there = tf.argmax(model(images + OVERSHOOT * total, training=False), axis=-1)
        active &= (there == labels) == is_right
    ratio = OVERSHOOT * tf.sqrt(
        tf.reduce_sum(total**2, axis=[1, 2, 3])
        / tf.reduce_sum(images**2, axis=[1, 2, 3])
        + 1e-20
    )
    exponent = tf.where(is_right, -25.0 * ratio, 5.0 * tf.minimum(ratio, 2.0))
    return 15.0 * tf.exp(exponent)


# By name: the penalty, the same by hand, and how many plain steps it may cost.
PENALTIES: dict[str, tuple[Any, Step, float | None]] = {
    "plain": (None, no_penalty, None),
    "Cross-Lipschitz, exact": (CrossLipschitz(weight=WEIGHT), cross_lipschitz, 10.0),
    "Cross-Lipschitz, one projection": (
        CrossLipschitz(weight=WEIGHT, projections=1),
        projected_cross_lipschitz,
        2.0,
    ),
    f"Deep Defense, {DEEP_FOOL_STEPS} steps": (
        DeepDefense(steps=DEEP_FOOL_STEPS),
        deep_defense,
        60.0,
    ),
}


def small_network() -> keras.Model:
    """Returns a network that compiles quickly."""
    hidden = keras.layers.Dense(8, activation="softplus")
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            hidden,
            keras.layers.Dense(CLASSES),
        ]
    )


def by_hand(
    model: keras.Model, penalty: Step, batches: tf.data.Dataset
) -> Callable[[], Any]:
    """Returns a loop around a hand-written step, without Keras's `fit`."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)

    def losses(images: tf.Tensor, labels: tf.Tensor, _: None) -> tf.Tensor:
        extra = penalty(model, images, labels)
        return loss(labels, model(images, training=True)) + extra

    return training_loop(model, batches, losses)


def by_fit(
    model: keras.Model, penalty: Any, batches: tf.data.Dataset
) -> Callable[[], Any]:
    """Returns a function that runs one epoch of `fit`."""
    penalties = [] if penalty is None else [penalty]
    training = AdversarialTrainingModel(model, penalties=penalties)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.compile(keras.optimizers.Adam(), loss)
    return lambda: training.fit(batches, verbose=0, shuffle=False)


def candidates(
    network: Callable[[], keras.Model], *, steps: int, batch_size: int
) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, each also by hand."""
    images, labels = noise(batch_size)
    pair = (images, np.asarray(labels, "int64"))
    data = tf.data.Dataset.from_tensor_slices(pair).repeat(steps)
    batches = data.batch(batch_size, drop_remainder=True).prefetch(2)
    timed = {}
    for name, (penalty, hand, _) in PENALTIES.items():
        timed[f"{name}, by hand"] = by_hand(network(), hand, batches)
        timed[name] = by_fit(network(), penalty, batches)
    return timed


def main() -> None:
    """Times the steps and prints the table."""
    arguments = parse_arguments("Training steps with penalties", rounds=3)
    steps, batch_size = (1, 4) if arguments.smoke else (TRAINING_STEPS, BATCH_SIZE)
    network = small_network if arguments.smoke else madry_network
    build = functools.partial(candidates, network, steps=steps, batch_size=batch_size)
    found = interleave(build, rounds=arguments.rounds)
    least = {name: float(wall.min()) / steps for name, (wall, _) in found.items()}
    rows = []
    for name, (_, _, limit) in PENALTIES.items():
        ours, hand = least[name], least[f"{name}, by hand"]
        rows.append([name, f"{ours:.3f} s", f"{ours / least['plain']:.2f}"])
        rows[-1] += verdict(ours / least["plain"], limit)
        rows[-1] += [f"{ours / hand:.3f}", *verdict(ours / hand, BY_HAND_LIMIT)]
    print_report(
        f"Training steps with penalties, batches of {batch_size}",
        ["", "step", "ratio to plain", "target", "", "ratio to by hand", "target", ""],
        rows,
        notes=f"The Madry MNIST network, 10 classes; the fastest of {arguments.rounds} "
        f"interleaved rounds of {steps} steps of `fit`. By hand: a\n`tf.function` "
        "of the papers' formulas, with one backward pass for each class, all unrolled, "
        "over the same `tf.data`.",
    )


if __name__ == "__main__":
    main()
