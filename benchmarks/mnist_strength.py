"""How many images an adversarially trained MNIST network gets right under attacks.

python benchmarks/mnist_strength.py --data mnist.npz --model adversarial.keras

`--natural` also takes an undefended network, on which the attacks of the smallest
perturbation are measured.
"""

import argparse
import sys
import time

import keras
import numpy as np
from madry_network import madry_network, noise
from timing import print_report

from keras_advdef.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    HopSkipJump,
    MinimalAttack,
    Square,
)

EPSILON = 0.3


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="MNIST as .npz in the layout of keras.datasets")
    parser.add_argument("--model", help="adversarially trained .keras model")
    parser.add_argument("--natural", help="undefended .keras model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32"
    )
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    return parser.parse_args()


def load(path: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first test images in `[0, 1]` with their labels, or noise."""
    if path is None:
        return noise(count)
    with np.load(path) as file:
        images, labels = file["x_test"][:count], file["y_test"][:count]
    return (images[..., None] / 255).astype(np.float32), labels.astype(np.int64)


def ball_attacks(arguments: argparse.Namespace) -> list[Attack]:
    """Returns the attacks in the linf ball, weak ones first."""
    precision = arguments.precision
    if arguments.smoke:
        return [PGD(steps=2), AutoAttack(steps=2, queries=3, precision=precision)]
    step = {"step_size": 0.01, "precision": precision}
    return [
        FGSM(precision=precision),
        PGD(steps=40, **step),
        PGD(steps=100, restarts=5, **step),
        APGD(precision=precision),
        Square(precision=precision),
        AutoAttack(precision=precision),
    ]


def minimal_attacks(arguments: argparse.Namespace) -> list[MinimalAttack]:
    """Returns the attacks of the smallest perturbation."""
    if arguments.smoke:
        return [DeepFool(steps=2)]
    tuned = {"learning_rate": 0.1, "initial_constant": 1.0}
    return [
        DeepFool(),
        CarliniWagner(steps=100, binary_search_steps=3, **tuned),
        FAB(norm="l2"),
        HopSkipJump(steps=20),
    ]


def ladder(arguments: argparse.Namespace) -> list[list[str]]:
    """Returns a row for each attack in the ball."""
    images, labels = load(arguments.data, 8 if arguments.smoke else 200)
    model = load_model(arguments.model)
    rows = []
    for attack in ball_attacks(arguments):
        start = time.perf_counter()
        found = attack.generate(
            model,
            images,
            labels,
            epsilon=EPSILON,
            seed=arguments.seed,
            batch_size=100,
            verbose=0,
            stop_early=not isinstance(attack, FGSM),
        )
        seconds = time.perf_counter() - start
        left = int((model.predict(found, verbose=0).argmax(-1) == labels).sum())
        rows.append([str(attack), f"{left} of {len(labels)}", f"{seconds:.0f} s"])
        print(": ".join(rows[-1][:2]), file=sys.stderr, flush=True)
    return rows


def smallest(arguments: argparse.Namespace) -> list[list[str]]:
    """Returns a row for each attack of the smallest perturbation."""
    images, labels = load(arguments.data, 4 if arguments.smoke else 50)
    model = load_model(arguments.natural)
    rows = []
    for attack in minimal_attacks(arguments):
        start = time.perf_counter()
        found = attack.search(model, images, labels, seed=arguments.seed, verbose=0)
        seconds = time.perf_counter() - start
        again = model.predict(found.images, batch_size=7, verbose=0).argmax(-1)
        median = np.median(found.norms[found.success]) if found.success.any() else 0.0
        broken = f"{int((again != labels).sum())} of {len(labels)}"
        rows.append([str(attack), f"{median:.3f}", broken, f"{seconds:.0f} s"])
    return rows


def load_model(path: str | None) -> keras.Model:
    """Returns the stored model, or without a path the untrained network."""
    return keras.saving.load_model(path) if path else madry_network()


def main() -> None:
    """Attacks and prints the tables."""
    arguments = parse_arguments()
    if arguments.model or arguments.smoke:
        print_report(
            f"Strength at linf {EPSILON:g}",
            ("attack", "correct", "time"),
            ladder(arguments),
            notes=f"Passes in {arguments.precision}, seed {arguments.seed}.",
        )
    if arguments.natural or arguments.smoke:
        print_report(
            "Smallest perturbation in l2",
            ("attack", "median norm", "broken when run again", "time"),
            smallest(arguments),
            notes=f"An undefended network, seed {arguments.seed}.",
        )


if __name__ == "__main__":
    main()
