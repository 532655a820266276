"""A training step with variational layers against one with Keras's layers.

python benchmarks/variational_step_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.layers import VariationalConv2D, VariationalDense

BATCH_SIZE = 128
TRAINING_STEPS = 2
KL_WEIGHT = 1 / 50000
PLAIN = "Keras's layers"
LIMITS = {"reparameterization": 1.6, "flipout": 2.2}


def network(
    convolution: Callable[..., Any], dense: Callable[..., Any], filters: int
) -> keras.Model:
    """Returns four convolutions and a head, compiled without `jit_compile`."""
    options = {"padding": "same", "activation": "relu"}
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            convolution(filters, 3, **options),
            convolution(filters, 3, **options),
            keras.layers.MaxPooling2D(2),
            convolution(2 * filters, 3, **options),
            convolution(2 * filters, 3, **options),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, jit_compile=False)
    return model


def variational(filters: int, **arguments: Any) -> keras.Model:
    """Returns the network with variational layers."""
    arguments = {"kl_weight": KL_WEIGHT, **arguments}
    convolution = functools.partial(VariationalConv2D, **arguments)
    return network(
        convolution, functools.partial(VariationalDense, **arguments), filters
    )


def steps_of(
    model: keras.Model, images: np.ndarray, *, labels: np.ndarray
) -> Callable[[], Any]:
    """Returns a function that trains for some steps."""

    def run() -> None:
        for _ in range(TRAINING_STEPS):
            model.train_on_batch(images, labels)

    return run


def candidates(*, batch_size: int, filters: int) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, Keras's layers first."""
    generator = np.random.default_rng(0)
    images = generator.random((batch_size, 32, 32, 3), dtype=np.float32)
    labels = generator.integers(0, 10, batch_size)
    plain = network(keras.layers.Conv2D, keras.layers.Dense, filters)
    models = {PLAIN: plain, "deterministic": variational(filters, deterministic=True)}
    for estimator in ("reparameterization", "flipout", "local_reparameterization"):
        models[estimator] = variational(filters, estimator=estimator)
    return {
        name: steps_of(model, images, labels=labels) for name, model in models.items()
    }


def main() -> None:
    """Times the steps and prints the table."""
    arguments = parse_arguments("Training step of variational layers", rounds=5)
    batch_size, filters = (4, 2) if arguments.smoke else (BATCH_SIZE, 32)
    build = functools.partial(candidates, batch_size=batch_size, filters=filters)
    seconds = interleave(build, rounds=arguments.rounds)
    print_report(
        f"Training step of variational layers, batches of {batch_size}",
        RATIO_HEADER,
        ratio_rows(seconds, per=TRAINING_STEPS, limits=LIMITS),
        notes=f"Convolutions of {filters}, {filters}, {2 * filters} and {2 * filters} "
        f"channels on 32x32x3 and a dense head, {arguments.rounds} interleaved rounds\n"
        f"of three times {TRAINING_STEPS} steps of `train_on_batch` with Adam, "
        "`jit_compile=False`.\nRatios are relative to the network of Keras's layers; "
        '"deterministic" is the variational network at the means of its weights.',
    )


if __name__ == "__main__":
    main()
