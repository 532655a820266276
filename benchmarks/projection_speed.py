"""Projection onto a generator against the same search written by hand.

python benchmarks/projection_speed.py
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.layers import GenerativeProjection
from keras_advdef.models import mnist_generator

LATENT_DIM, SHAPE = 128, (28, 28, 1)
STEPS, RESTARTS, RATE, MOMENTUM = 200, 10, 10.0, 0.7
BATCHES = (1, 8, 50)
BARE = "steps by hand"
LAYER = "GenerativeProjection"
LIMIT = 1.1


def by_hand(generator: keras.Model, *, steps: int, restarts: int) -> Any:
    """Returns a compiled function that does only what is needed."""

    @tf.function(autograph=False)
    def project(images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        targets = tf.repeat(images, restarts, axis=0)
        shape = [count * restarts, LATENT_DIM]
        latents = tf.random.normal(shape, stddev=LATENT_DIM**-0.5)

        def step(index: Any, latents: Any, velocity: Any) -> tuple[Any, ...]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(latents)
                squares = tf.square(generator(latents, training=False) - targets)
                loss = tf.reduce_sum(tf.reduce_mean(squares, axis=[1, 2, 3]))
            velocity = MOMENTUM * velocity - RATE * tape.gradient(loss, latents)
            return index + 1, latents + velocity, velocity

        _, latents, _ = tf.while_loop(
            lambda index, *_: index < steps,
            step,
            (0, latents, tf.zeros_like(latents)),
            maximum_iterations=steps,
            parallel_iterations=1,
        )
        made = generator(latents, training=False)
        errors = tf.reduce_mean(tf.square(made - targets), axis=[1, 2, 3])
        best = tf.argmin(tf.reshape(errors, [count, restarts]), axis=1)
        made = tf.reshape(made, [count, restarts, *SHAPE])
        return tf.gather(made, best, batch_dims=1)

    return project


def candidates(
    *, width: int, batch: int, steps: int, restarts: int
) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, the hand-written loop first."""
    generator = mnist_generator(width)
    layer = GenerativeProjection(generator, steps=steps, restarts=restarts)
    drawn = np.random.default_rng(0).normal(size=(batch, LATENT_DIM))
    images = tf.constant(generator(drawn))
    functions = {
        BARE: by_hand(generator, steps=steps, restarts=restarts),
        LAYER: tf.function(layer, autograph=False),
    }
    return {
        name: functools.partial(_called, function, images)
        for name, function in functions.items()
    }


def _called(function: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> None:
    function(images).numpy()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the size of the generator."""
    parser.add_argument("--width", type=int, default=16)


def main() -> None:
    """Times the search at a few batch sizes and prints the table."""
    arguments = parse_arguments(
        "Projection onto a generator", rounds=3, add_options=add_options
    )
    batches, steps, restarts, width = BATCHES, STEPS, RESTARTS, arguments.width
    if arguments.smoke:
        batches, steps, restarts, width = (2,), 3, 2, 2
    rows = []
    for batch in batches:
        sizes = {"batch": batch, "steps": steps, "restarts": restarts}
        build = functools.partial(candidates, width=width, **sizes)
        seconds = interleave(build, rounds=arguments.rounds)
        timed = ratio_rows(seconds, per=batch, limits={LAYER: LIMIT})
        rows += [[str(batch), *row] for row in timed]
    print_report(
        f"Projection onto a generator, {steps} steps from {restarts} starts",
        ["batch", *RATIO_HEADER],
        rows,
        notes=f"A generator of 28x28x1 images of width {width}, {arguments.rounds} "
        "interleaved rounds, not jitted; times are for one image.\nBy hand: as many "
        "steps with momentum, all starts side by side in one `tf.function`, then the "
        "best of\ntheir last points.",
    )


if __name__ == "__main__":
    main()
