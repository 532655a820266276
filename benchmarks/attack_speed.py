"""PGD, APGD and Square against bare loops of the passes that they need.

python benchmarks/attack_speed.py
"""

import argparse
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from bare_loops import STEP_SIZE, bare_passes
from madry_network import add_input_options, described, images_and_labels, network
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.square import Square

EPSILON = 0.3
# So small that no image is broken: broken images need no more queries.
TINY_EPSILON = 1e-6
BATCH_SIZE = 250
# Of `generate`. Inside one graph the steps are a loop, a fifth slower on CPUs.
LIMIT = 1.05
SQUARE_LIMIT = 1.20
HALF = "bfloat16"
GENERATE = "generate"

Timed = dict[str, Callable[[], Any]]


def pgd(model: keras.Model, arrays: tuple[Any, Any], steps: int) -> Timed:
    """Returns the candidates by name, the bare loop first."""
    options = {"steps": steps, "step_size": STEP_SIZE}
    last, best = PGD(EPSILON, return_best=False, **options), PGD(EPSILON, **options)
    attacks = {
        "PGD, return_best=False": last,
        "PGD": best,
        f"PGD, {HALF}": best.replace(precision=HALF),
    }
    bare = bare_passes(model, gradients=steps, forwards=0)
    return timed_both_ways(attacks, model, arrays, bare=bare)


def apgd(model: keras.Model, arrays: tuple[Any, Any], steps: int) -> Timed:
    """Returns the candidates by name, the bare loop first."""
    attack = APGD(EPSILON, steps=steps)
    attacks = {"APGD": attack, f"APGD, {HALF}": attack.replace(precision=HALF)}
    bare = bare_passes(model, gradients=steps, forwards=1)
    return timed_both_ways(attacks, model, arrays, bare=bare)


def square(model: keras.Model, arrays: tuple[Any, Any], queries: int) -> Timed:
    """Returns the candidates by name, the bare loop first."""
    attack = Square(TINY_EPSILON, queries=queries)
    attacks = {"Square": attack, f"Square, {HALF}": attack.replace(precision=HALF)}
    bare = bare_passes(model, gradients=0, forwards=queries + 1)
    images = arrays[0]
    standing = model.predict_on_batch(images).argmax(axis=-1)
    return timed_both_ways(attacks, model, (images, standing), bare=bare)


def timed_both_ways(
    attacks: dict[str, Attack],
    model: keras.Model,
    arrays: tuple[np.ndarray, np.ndarray],
    *,
    bare: Callable[..., tf.Tensor],
) -> Timed:
    """Returns by name the bare loop and the attacks, in `generate` and in a graph."""
    images, labels = map(tf.constant, arrays)

    def call(function: Callable[..., tf.Tensor]) -> Callable[[], Any]:
        return lambda: function(images, labels).numpy()

    def compiled(attack: Attack) -> Callable[..., tf.Tensor]:
        function = tf.function(lambda *inputs: attack(model, *inputs, seed=0))
        return function.get_concrete_function(images, labels)

    def generated(attack: Attack) -> Callable[[], Any]:
        size = len(images)
        return lambda: attack.generate(
            model, *arrays, seed=0, batch_size=size, verbose=0
        )

    timed = {"bare loop": call(bare)}
    for name, attack in attacks.items():
        timed[f"{name}, {GENERATE}"] = generated(attack)
        timed[f"{name}, in a graph"] = call(compiled(attack))
    return timed


def report(
    arguments: argparse.Namespace,
    candidates: Callable[[keras.Model, tuple[Any, Any], int], Timed],
    steps: int,
    *,
    title: str,
    limit: float,
    notes: str,
) -> None:
    """Times one attack and prints its table.

    Args:
        arguments: The parsed command line.
        candidates: Returns what is timed for a model, images with labels and steps.
        steps: Steps or queries.
        title: Name of the attack.
        limit: Largest ratio that meets the target, without bfloat16.
        notes: What the bare loop is.
    """
    batch_size = 8 if arguments.smoke else BATCH_SIZE
    steps = 2 if arguments.smoke else steps
    arrays = images_and_labels(arguments, batch_size)
    seconds = interleave(
        lambda: candidates(network(arguments), arrays, steps), rounds=arguments.rounds
    )
    names = [each for each in seconds if GENERATE in each and HALF not in each]
    attacked = f"{described(arguments)}, {arguments.rounds} interleaved rounds."
    print_report(
        f"{title}-{steps}, one batch of {batch_size}",
        RATIO_HEADER,
        ratio_rows(seconds, per=1, limits=dict.fromkeys(names, limit)),
        notes=f"{attacked}\n{notes}",
    )


def main() -> None:
    """Times the attacks and prints the tables."""
    arguments = parse_arguments(
        "PGD, APGD and Square against bare loops",
        rounds=7,
        add_options=add_input_options,
    )
    notes = (
        "The bare loop is Python's, over a `tf.function` of a forward and "
        "input-gradient pass with a sign step,\nwithout random start or projection. "
        "`generate` also checks the arrays and the logits of one batch."
    )
    report(arguments, pgd, 40, title="PGD", limit=LIMIT, notes=notes)
    notes = "The bare loop has as many input gradients, and one final forward pass."
    report(arguments, apgd, 100, title="APGD", limit=LIMIT, notes=notes)
    notes = (
        "The bare loop has a forward pass for each query and one for the start; no "
        "image is broken."
    )
    report(arguments, square, 200, title="Square", limit=SQUARE_LIMIT, notes=notes)


if __name__ == "__main__":
    main()
