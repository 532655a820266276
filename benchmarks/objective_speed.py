"""Training steps of each objective against a plain step, and against hand-written ones.

python benchmarks/objective_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from bare_loops import training_loop
from madry_network import madry_network, noise
from timing import interleave, parse_arguments, print_report, verdict

from keras_advdef.attacks import NFGSM, PGD, Attack
from keras_advdef.objectives import (
    MART,
    TRADES,
    AdversarialCrossEntropy,
    CrossEntropy,
    LogitPairing,
    Objective,
)
from keras_advdef.training import AdversarialTrainingModel

EPSILON, ATTACK_STEPS = 0.3, 7
BATCH_SIZE, TRAINING_STEPS = 64, 10
CLASSES = 10
BETA, WEIGHT = 5.0, 0.5
BY_HAND_LIMIT = 1.10


def entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def divergence(clean: tf.Tensor, adversarial: tf.Tensor) -> tf.Tensor:
    """Returns the divergence between the predictions for each image."""
    clean, adversarial = tf.nn.log_softmax(clean), tf.nn.log_softmax(adversarial)
    return tf.reduce_sum(tf.exp(clean) * (clean - adversarial), axis=-1)


def ascend(
    model: keras.Model,
    images: tf.Tensor,
    *,
    start: tf.Tensor,
    loss: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Returns the end of unrolled PGD steps that maximise a loss of the logits."""
    low = tf.maximum(images - EPSILON, 0.0)
    high = tf.minimum(images + EPSILON, 1.0)
    adversarial = tf.clip_by_value(start, low, high)
    for _ in range(ATTACK_STEPS):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adversarial)
            total = tf.reduce_sum(loss(model(adversarial, training=False)))
        slope = tf.sign(tape.gradient(total, adversarial))
        moved = adversarial + 2.5 * EPSILON / ATTACK_STEPS * slope
        adversarial = tf.clip_by_value(moved, low, high)
    return adversarial


def uniform(images: tf.Tensor, size: float) -> tf.Tensor:
    """Returns images with uniform noise."""
    return images + tf.random.uniform(tf.shape(images), -size, size)


def normal(images: tf.Tensor) -> tf.Tensor:
    """Returns images with a little normal noise."""
    return images + tf.random.normal(tf.shape(images), stddev=0.001)


def no_attack(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the images."""
    del model, labels
    return images


def pgd(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns PGD images from a uniform start."""
    start = uniform(images, EPSILON)
    return ascend(model, images, start=start, loss=lambda z: entropy(labels, z))


def pgd_of_mart(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns PGD images from a start next to the image."""
    start = normal(images)
    return ascend(model, images, start=start, loss=lambda z: entropy(labels, z))


def pgd_of_trades(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """Returns images of largest divergence."""
    del labels
    clean = model(images, training=False)
    start = normal(images)
    return ascend(model, images, start=start, loss=lambda z: divergence(clean, z))


def n_fgsm(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns noisy images after one step."""
    noisy = tf.clip_by_value(uniform(images, 2.0 * EPSILON), 0.0, 1.0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(noisy)
        total = tf.reduce_sum(entropy(labels, model(noisy, training=False)))
    moved = noisy + EPSILON * tf.sign(tape.gradient(total, noisy))
    return tf.clip_by_value(moved, 0.0, 1.0)


def plain(model: keras.Model, *batch: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of clean images."""
    images, labels, _ = batch
    return entropy(labels, model(images, training=True))


def adversarial_cross_entropy(model: keras.Model, *batch: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of adversarial images."""
    _, labels, adversarial = batch
    return entropy(labels, model(adversarial, training=True))


def trades(model: keras.Model, *batch: tf.Tensor) -> tf.Tensor:
    """Returns the loss of TRADES."""
    images, labels, adversarial = batch
    clean, moved = (model(each, training=True) for each in (images, adversarial))
    return entropy(labels, clean) + BETA * divergence(clean, moved)


def mart(model: keras.Model, *batch: tf.Tensor) -> tf.Tensor:
    """Returns the loss of MART with the stabilisers of its authors."""
    images, labels, adversarial = batch
    clean, moved = (model(each, training=True) for each in (images, adversarial))
    is_label = tf.one_hot(labels, CLASSES)
    after = tf.nn.softmax(moved)
    wrong = tf.reduce_max(after - is_label, axis=-1)
    right = tf.reduce_sum(tf.nn.softmax(clean) * is_label, axis=-1)
    boosted = entropy(labels, moved) - tf.math.log(1.0001 - wrong + 1e-12)
    return boosted + BETA * divergence(clean, moved) * (1.0000001 - right)


def logit_pairing(model: keras.Model, *batch: tf.Tensor) -> tf.Tensor:
    """Returns the loss of adversarial logit pairing."""
    images, labels, adversarial = batch
    clean, moved = (model(each, training=True) for each in (images, adversarial))
    entropies = entropy(labels, clean) + entropy(labels, moved)
    return 0.5 * entropies + WEIGHT * tf.reduce_mean((clean - moved) ** 2, axis=-1)


class Case(NamedTuple):
    """An attack and an objective, and both by hand."""

    attack: Attack | None
    objective: Objective
    craft: Callable[..., tf.Tensor]
    losses: Callable[..., tf.Tensor]


PGD_7 = PGD(EPSILON, steps=ATTACK_STEPS, return_best=False)
CASES = {
    "plain": Case(None, CrossEntropy(), no_attack, plain),
    "N-FGSM": Case(
        NFGSM(EPSILON), AdversarialCrossEntropy(), n_fgsm, adversarial_cross_entropy
    ),
    "PGD-7": Case(PGD_7, AdversarialCrossEntropy(), pgd, adversarial_cross_entropy),
    "PGD-7, TRADES": Case(PGD_7, TRADES(beta=BETA), pgd_of_trades, trades),
    "PGD-7, MART": Case(PGD_7, MART(beta=BETA), pgd_of_mart, mart),
    "PGD-7, logit pairing": Case(
        PGD_7, LogitPairing(weight=WEIGHT), pgd, logit_pairing
    ),
}


def by_hand(case: Case, batches: tf.data.Dataset) -> Callable[[], Any]:
    """Returns a loop around a hand-written step, without Keras's `fit`."""
    model = madry_network()

    def craft(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(case.craft(model, images, labels))

    losses = functools.partial(case.losses, model)
    return training_loop(model, batches, losses, craft=craft)


def by_fit(case: Case, batches: tf.data.Dataset) -> Callable[[], Any]:
    """Returns a function that runs one epoch of `fit`."""
    model = AdversarialTrainingModel(madry_network(), case.attack, case.objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    return lambda: model.fit(batches, verbose=0, shuffle=False)


def candidates(*, steps: int, batch_size: int) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, each also by hand."""
    images, labels = noise(batch_size)
    pair = (images, np.asarray(labels, "int64"))
    data = tf.data.Dataset.from_tensor_slices(pair).repeat(steps)
    batches = data.batch(batch_size, drop_remainder=True).prefetch(2)
    timed = {}
    for name, case in CASES.items():
        timed[f"{name}, by hand"] = by_hand(case, batches)
        timed[name] = by_fit(case, batches)
    return timed


def main() -> None:
    """Times the steps and prints the table."""
    arguments = parse_arguments("Training steps of the objectives", rounds=3)
    steps, batch_size = (1, 4) if arguments.smoke else (TRAINING_STEPS, BATCH_SIZE)
    build = functools.partial(candidates, steps=steps, batch_size=batch_size)
    found = interleave(build, rounds=arguments.rounds)
    least = {name: each.min(axis=1) / steps for name, each in found.items()}
    rows = []
    for name in CASES:
        ours, hand = least[name], least[f"{name}, by hand"]
        to_plain, (wall, processor) = ours / least["plain"], ours / hand
        rows.append([name, f"{ours[0]:.3f} s", f"{to_plain[0]:.2f}", f"{wall:.3f}"])
        rows[-1] += [f"{processor:.3f}", *verdict(wall, BY_HAND_LIMIT)]
    print_report(
        f"Training steps of the objectives, batches of {batch_size}",
        ["", "step", "ratio to plain", "ratio to by hand", "processor", "target", ""],
        rows,
        notes=f"The Madry MNIST network; the fastest of {arguments.rounds} interleaved "
        f"rounds of {steps} steps of `fit`. PGD returns its\nlast point. By hand: a "
        "`tf.function` of the papers' formulas, the attack's steps unrolled, over the "
        "same `tf.data`.\nOurs tracks the accuracy as well.",
    )


if __name__ == "__main__":
    main()
