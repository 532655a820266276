"""AutoAttack against bare loops of the passes that it needs.

python benchmarks/auto_attack_speed.py
"""

import argparse
import functools

import tensorflow as tf
from attack_speed import HALF, TINY_EPSILON, Timed
from bare_loops import bare_passes
from madry_network import add_input_options, described, images_and_labels, network
from timing import RATIO_HEADER, interleave, parse_arguments, print_report, ratio_rows

from keras_advdef.attacks.auto_attack import AutoAttack

# A fifth of the standard's 100 steps and 5000 queries.
STEPS = 20
QUERIES = 1000
BATCH_SIZE = 100
TARGETS = 9
LIMIT = 1.25
HALF_LIMIT = 0.45


def passes(steps: int, queries: int) -> dict[str, int]:
    """Returns how many passes an image takes that no attack breaks.

    APGD takes a gradient per step, in one run on the cross-entropy and one for each
    target. FAB takes a gradient and a forward pass per step and target. Square takes a
    forward pass per query.

    Args:
        steps: Steps of APGD and FAB.
        queries: Queries of Square.
    """
    looks = {
        "clean images": 1,
        "last points of APGD": 1 + TARGETS,
        "targets of APGD and FAB": 2 * TARGETS,
        "FAB": TARGETS * steps,
        "Square, its start with it": queries + 1,
    }
    return {
        "gradients": (1 + TARGETS + TARGETS) * steps,
        "forwards": sum(looks.values()),
    }


def candidates(
    arguments: argparse.Namespace, *, steps: int, queries: int, batch_size: int
) -> Timed:
    """Returns the candidates by name, the bare loops first."""
    model = network(arguments)
    images, _ = images_and_labels(arguments, batch_size)
    standing = model.predict_on_batch(images).argmax(axis=-1)
    bare = bare_passes(model, **passes(steps, queries))
    pixels, labels = tf.constant(images), tf.constant(standing)
    timed: Timed = {"bare loops": lambda: bare(pixels, labels).numpy()}
    for name, precision in (("AutoAttack", "float32"), (f"AutoAttack, {HALF}", HALF)):
        attack = AutoAttack(
            TINY_EPSILON, steps=steps, queries=queries, precision=precision
        )
        timed[name] = functools.partial(
            attack.generate,
            model,
            images,
            standing,
            seed=0,
            batch_size=batch_size,
            verbose=0,
        )
    return timed


def main() -> None:
    """Times the attack and prints the table."""
    arguments = parse_arguments(
        "AutoAttack against bare loops", rounds=3, add_options=add_input_options
    )
    steps, queries, size = STEPS, QUERIES, BATCH_SIZE
    if arguments.smoke:
        steps, queries, size = 2, 5, 4
    build = functools.partial(
        candidates, arguments, steps=steps, queries=queries, batch_size=size
    )
    seconds = interleave(build, rounds=arguments.rounds)
    counts = passes(steps, queries)
    limits = {"AutoAttack": LIMIT, f"AutoAttack, {HALF}": HALF_LIMIT}
    print_report(
        f"AutoAttack, {steps} steps, {queries} queries, {size} images",
        RATIO_HEADER,
        ratio_rows(seconds, per=1, limits=limits),
        notes=f"{described(arguments)}, {arguments.rounds} interleaved rounds.\nThe "
        f"bare loops have {counts['gradients']} input gradients and "
        f"{counts['forwards']} forward passes in float32, as many as\nthe four attacks "
        "need if they break no image, as is the case here.",
    )


if __name__ == "__main__":
    main()
