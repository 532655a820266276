"""Prediction with noise, pruning and ensembles against the undefended net.

python benchmarks/randomization_speed.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.layers import RandomNoise
from keras_advdef.models import RandomSelfEnsemble
from keras_advdef.surgery import insert_noise, insert_pruning, rewrite

BATCH_SIZE = 128
BATCHES = 2
SAMPLES = 10
PLAIN = "undefended"
NOISY = "noise before every convolution"
ENSEMBLE = f"RandomSelfEnsemble, {SAMPLES} passes"
LIMITS = {NOISY: 1.9, "pruning after every ReLU, bernoulli": 2.8}
ENSEMBLE_LIMIT = 10.5


def network(filters: int) -> keras.Model:
    """Returns four convolutions and a head."""
    options = {"padding": "same", "activation": "relu"}
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(filters, 3, **options),
            layers.Conv2D(filters, 3, **options),
            layers.MaxPooling2D(2),
            layers.Conv2D(2 * filters, 3, **options),
            layers.Conv2D(2 * filters, 3, **options),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def by_philox(model: keras.Model) -> keras.Model:
    """Returns the noisy model with draws from Philox."""

    def rule(layer: Any) -> list[Any] | None:
        if not isinstance(layer, RandomNoise):
            return None
        return [RandomNoise(layer.stddev, generator="philox")]

    return rewrite(model, rule)


def candidates(*, batch_size: int, filters: int) -> dict[str, Callable[[], Any]]:
    """Returns the candidates by name, the undefended net first."""
    generator = np.random.default_rng(0)
    images = generator.random((BATCHES * batch_size, 32, 32, 3), dtype=np.float32)
    net = network(filters)
    noisy = insert_noise(net)
    models = {
        PLAIN: net,
        NOISY: noisy,
        "the same by Philox": by_philox(noisy),
        "pruning after every ReLU, bernoulli": insert_pruning(
            net, sampling="bernoulli"
        ),
        "pruning after every ReLU, multinomial": insert_pruning(net),
        ENSEMBLE: RandomSelfEnsemble(noisy, samples=SAMPLES),
    }
    options = {"batch_size": batch_size, "verbose": 0}
    return {
        name: functools.partial(model.predict, images, **options)
        for name, model in models.items()
    }


def main() -> None:
    """Times the passes and prints both tables."""
    arguments = parse_arguments("Prediction of randomised networks", rounds=5)
    batch_size, filters = (4, 2) if arguments.smoke else (BATCH_SIZE, 32)
    build = functools.partial(candidates, batch_size=batch_size, filters=filters)
    seconds = interleave(build, rounds=arguments.rounds)
    print_report(
        f"Prediction of randomised networks, batches of {batch_size}",
        RATIO_HEADER,
        ratio_rows(seconds, per=BATCHES, limits=LIMITS),
        notes=f"Convolutions of {filters}, {filters}, {2 * filters} and {2 * filters} "
        f"channels on 32x32x3, {arguments.rounds} interleaved rounds of `predict` on\n"
        f"{BATCHES} batches, not jitted. Ratios are relative to the undefended "
        "network.",
    )
    ensemble = {name: seconds[name] for name in (NOISY, ENSEMBLE)}
    print_report(
        "The ensemble against one noisy pass",
        RATIO_HEADER,
        ratio_rows(ensemble, per=BATCHES, limits={ENSEMBLE: ENSEMBLE_LIMIT}),
        notes="The same runs; ratios are relative to one pass with noise.",
    )


if __name__ == "__main__":
    main()
