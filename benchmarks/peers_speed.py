"""PGD-40, DeepFool and Carlini-Wagner against the other libraries installed.

python benchmarks/peers_speed.py --threads 1
"""

import argparse
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from attack_speed import EPSILON
from bare_loops import STEP_SIZE
from madry_network import add_input_options, described, images_and_labels, network
from peers import (
    Budget,
    Craft,
    art_pgd,
    cleverhans_pgd,
    foolbox_attack,
    is_installed,
    set_torch_threads,
    torchattacks_pgd,
)
from timing import interleave, parse_arguments, print_report, verdict

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.pgd import PGD

PGD_STEPS = 40
PGD_BATCH = 250
MINIMAL_BATCH = 50
DEEP_FOOL_STEPS = 50
SEARCH_STEPS = 3
SEARCHED_STEPS = 100
LEARNING_RATE = 0.1

Build = Callable[[keras.Model], dict[str, Craft]]


def our(attack: Attack, model: keras.Model) -> Craft:
    """Returns an attack of this library as a function of arrays."""

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        size = len(images)
        return attack.generate(
            model, images, labels, seed=0, batch_size=size, verbose=0
        )

    return craft


def pgd(steps: int) -> Build:
    """Returns a function that gives all PGDs on a model by name, ours first."""
    budget = Budget(EPSILON, STEP_SIZE, steps)

    def build(model: keras.Model) -> dict[str, Craft]:
        crafts = {"ours": our(PGD(EPSILON, step_size=STEP_SIZE, steps=steps), model)}
        if is_installed("foolbox"):
            crafts["Foolbox"] = foolbox_attack(
                model,
                "LinfPGD",
                epsilon=EPSILON,
                abs_stepsize=STEP_SIZE,
                steps=steps,
            )
        peers = {
            "art": ("ART for TensorFlow 2", art_pgd),
            "cleverhans": ("CleverHans", cleverhans_pgd),
            "torchattacks": ("torchattacks", torchattacks_pgd),
        }
        for package, (name, peer) in peers.items():
            if is_installed(package):
                crafts[name] = peer(model, budget)
        return crafts

    return build


def deep_fool(steps: int) -> Build:
    """Returns a function that gives all DeepFools on a model by name, ours first."""

    def build(model: keras.Model) -> dict[str, Craft]:
        crafts = {"ours": our(DeepFool(steps=steps), model)}
        if is_installed("foolbox"):
            crafts["Foolbox"] = foolbox_attack(model, "L2DeepFoolAttack", steps=steps)
        return crafts

    return build


def carlini_wagner(steps: int) -> Build:
    """Returns a function that gives all Carlini-Wagner attacks on a model by name."""
    common = {"steps": steps, "binary_search_steps": SEARCH_STEPS}

    def build(model: keras.Model) -> dict[str, Craft]:
        attack = CarliniWagner(
            learning_rate=LEARNING_RATE, initial_constant=1.0, **common
        )
        crafts = {"ours": our(attack, model)}
        if is_installed("foolbox"):
            crafts["Foolbox"] = foolbox_attack(
                model,
                "L2CarliniWagnerAttack",
                stepsize=LEARNING_RATE,
                initial_const=1.0,
                **common,
            )
        return crafts

    return build


def outcome(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, *, found: np.ndarray
) -> list[str]:
    """Returns the share of images that were broken, and their median l2 norm."""
    broken = model.predict_on_batch(found).argmax(axis=-1) != labels
    norms = np.linalg.norm((found - images).reshape(len(images), -1), axis=1)
    median = f"{np.median(norms[broken]):.3f}" if broken.any() else "-"
    return [f"{broken.mean():.0%}", median]


def report(
    arguments: argparse.Namespace,
    build: Build,
    batch_size: int,
    *,
    title: str,
    least: float | None = None,
) -> None:
    """Times the libraries and prints their table.

    Args:
        arguments: The parsed command line.
        build: Returns the attacks on a model by name, ours first.
        batch_size: Number of images, in one batch.
        title: Name of the attack.
        least: The smallest multiple of our time that others should take.
    """
    model = network(arguments)
    images, _ = images_and_labels(arguments, batch_size)
    labels = model.predict_on_batch(images).argmax(axis=-1)
    found: dict[str, np.ndarray] = {}

    def timed(name: str, craft: Craft) -> Callable[[], Any]:
        return lambda: found.update({name: craft(images, labels)})

    def candidates() -> dict[str, Callable[[], Any]]:
        return {name: timed(name, craft) for name, craft in build(model).items()}

    seconds = interleave(candidates, rounds=arguments.rounds)
    rows = []
    our_time = seconds["ours"][0].min()
    for name, (wall, _) in seconds.items():
        ratio = float(wall.min() / our_time)
        target = verdict(ratio, least if name != "ours" else None, at_least=True)
        results = outcome(model, images, labels, found=found[name])
        rows.append([name, f"{wall.min():.3f} s", f"{ratio:.2f}", *target, *results])
    print_report(
        f"{title}, one batch of {batch_size}",
        ("", "fastest", "ratio", "target", "", "broken", "median l2"),
        rows,
        notes=f"{described(arguments)}, {arguments.rounds} interleaved rounds.\n"
        '"ratio" is relative to our time: 2 means twice as long as ours.',
    )


def main() -> None:
    """Times the attacks and prints the tables."""
    arguments = parse_arguments(
        "Ours and other libraries", rounds=3, add_options=add_input_options
    )
    set_torch_threads(arguments.threads)
    few = 2 if arguments.smoke else None
    batch, small = (8, 8) if arguments.smoke else (PGD_BATCH, MINIMAL_BATCH)
    steps = few or PGD_STEPS
    report(arguments, pgd(steps), batch, title=f"PGD-{steps}")
    steps = few or DEEP_FOOL_STEPS
    title = f"DeepFool in l2, at most {steps} steps"
    report(arguments, deep_fool(steps), small, title=title, least=2.0)
    steps = few or SEARCHED_STEPS
    title = f"Carlini-Wagner, {SEARCH_STEPS} times {steps} steps"
    report(arguments, carlini_wagner(steps), small, title=title, least=1.0)


if __name__ == "__main__":
    main()
