"""PGD-40 against a bare loop of as many forward and input-gradient passes.

python benchmarks/attack_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from madry_network import madry_network, noise
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.attacks import PGD

EPSILON = 0.3
STEP_SIZE = 0.01
STEPS = 40
BATCH_SIZE = 250
LIMIT = 1.05


def bare_loop(model: keras.Model, steps: int) -> Callable[..., tf.Tensor]:
    """Returns the loop without random start, projection or bookkeeping."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    @tf.function
    def loop(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                total = loss(labels, model(images, training=False))
            images += STEP_SIZE * tf.sign(tape.gradient(total, images))
        return images

    return loop


def in_graph(attack: PGD, model: keras.Model) -> Callable[..., tf.Tensor]:
    """Returns the attack as a user calls it in a graph of their own."""
    return tf.function(lambda images, labels: attack(model, images, labels, seed=0))


def candidates(*, steps: int, batch_size: int) -> dict[str, Callable[[], Any]]:
    """Returns what is timed by name, the bare loop first."""
    model = madry_network()
    arrays = noise(batch_size)
    images, labels = map(tf.constant, arrays)
    bare = bare_loop(model, steps)
    timed = {"bare loop": lambda: bare(images, labels).numpy()}
    for return_best in (False, True):
        attack = PGD(EPSILON, steps=steps, step_size=STEP_SIZE, return_best=return_best)
        compiled = in_graph(attack, model)
        name = f"PGD, return_best={return_best}"
        timed[name] = lambda compiled=compiled: compiled(images, labels).numpy()
    timed["PGD, return_best=True, generate"] = lambda: attack.generate(
        model, *arrays, seed=0, batch_size=batch_size, verbose=0
    )
    return timed


def main() -> None:
    """Times the attack and prints the table."""
    arguments = parse_arguments("PGD-40 against a bare loop", rounds=7)
    steps, batch_size = (2, 8) if arguments.smoke else (STEPS, BATCH_SIZE)
    build = functools.partial(candidates, steps=steps, batch_size=batch_size)
    seconds = interleave(build, rounds=arguments.rounds)
    print_report(
        f"PGD-{steps}, one batch of {batch_size}",
        RATIO_HEADER,
        ratio_rows(seconds, per=1, limits=dict.fromkeys(list(seconds)[1:], LIMIT)),
        notes=f"The Madry MNIST network, {arguments.rounds} interleaved rounds. The "
        "bare loop is a `tf.function` of\nforward and input-gradient passes with a "
        "sign step: no start, no projection. `generate` also\nchecks the arrays and "
        "looks at the logits of one batch.",
    )


if __name__ == "__main__":
    main()
