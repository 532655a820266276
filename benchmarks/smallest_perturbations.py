"""How far away attacks find the nearest adversarial image, in each norm.

python benchmarks/smallest_perturbations.py --data mnist.npz --model net.keras

Foolbox takes part if it is installed (`pip install -e .[crosscheck]`).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from madry_network import madry_network, noise
from peers import foolbox_attack, is_installed
from timing import print_report

from keras_advdef.attacks import (
    DDN,
    FAB,
    FMN,
    JSMA,
    PDPGD,
    CarliniWagner,
    DeepFool,
    MinimalAttack,
    SigmaZero,
)
from keras_advdef.core.norms import norm_per_image

NORMS = ("l2", "linf", "l1", "l0")
# Foolbox's attacks that take as many steps, by norm.
THEIRS = {
    "l2": ("DDNAttack", "L2FMNAttack"),
    "linf": ("LInfFMNAttack",),
    "l1": ("L1FMNAttack",),
    "l0": ("L0FMNAttack",),
}

# Norms of the perturbations that an attack found, infinite where it found none.
Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="MNIST as .npz in the layout of keras.datasets")
    parser.add_argument("--model", help=".keras model to attack")
    parser.add_argument("--name", default="untrained", help="what to call the model")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=NORMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    return parser.parse_args()


def our_attacks(norm: str, steps: int) -> list[MinimalAttack]:
    """Returns our attacks in a norm, those with fewest passes first."""
    common = {"norm": norm, "steps": steps}
    if norm == "l0":
        zeros = [SigmaZero(steps=steps), SigmaZero(steps=10 * steps)]
        return [FMN(**common), *zeros, JSMA()]
    fab = FAB(norm=norm, steps=max(steps // 2, 1))
    if norm != "l2":
        deep = [DeepFool(norm=norm)] if norm == "linf" else []
        return [*deep, FMN(**common), fab, PDPGD(norm=norm, steps=5 * steps)]
    tuned = {"learning_rate": 0.1, "initial_constant": 1.0}
    wagner = CarliniWagner(steps=steps, binary_search_steps=3, **tuned)
    return [DeepFool(), DDN(steps=steps), FMN(**common), wagner, fab]


def searches(
    model: keras.Model, norm: str, arguments: argparse.Namespace
) -> Iterator[tuple[str, str, Search]]:
    """Yields the name, the passes and the search of each attack in a norm."""
    for attack in our_attacks(norm, arguments.steps):

        def ours(
            images: np.ndarray, labels: np.ndarray, attack: MinimalAttack = attack
        ) -> np.ndarray:
            seed = arguments.seed
            return attack.search(model, images, labels, seed=seed, verbose=0).norms

        forward, backward = attack.passes(model.output_shape[-1])
        passes = "-" if isinstance(attack, JSMA) else f"{forward} + {backward}"
        yield str(attack), passes, ours
    for name in THEIRS[norm] if is_installed("foolbox") else ():
        craft = foolbox_attack(model, name, steps=arguments.steps)

        def theirs(
            images: np.ndarray, labels: np.ndarray, craft: Search = craft
        ) -> np.ndarray:
            tf.random.set_seed(arguments.seed)
            found = craft(images, labels)
            wrong = model.predict(found, verbose=0).argmax(-1) != labels
            norms = norm_per_image(tf.constant(found - images), norm).numpy()
            return np.where(wrong, norms, np.inf)

        steps = arguments.steps
        yield f"Foolbox {name}-{steps}", f"{steps} + {steps}", theirs


def measure(
    model: keras.Model, norm: str, arguments: argparse.Namespace
) -> list[list[str]]:
    """Returns a row for each attack in a norm."""
    images, labels = load(arguments)
    found, rows = [], []
    for name, passes, search in searches(model, norm, arguments):
        start = time.perf_counter()
        norms = search(images, labels)
        seconds = time.perf_counter() - start
        found.append(norms)
        success = f"{int(np.isfinite(norms).sum())} of {len(norms)}"
        rows.append([norm, name, passes, f"{np.median(norms):.4g}", success])
        print(f"{norm} {name}: {rows[-1][3]}, {seconds:.0f} s", file=sys.stderr)
    nearest = np.min(found, axis=0)
    for row, norms in zip(rows, found, strict=True):
        row.insert(4, f"{np.mean(_shares(nearest, norms)):.3f}")
    return rows


def _shares(nearest: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Returns the best known norm over the norm found; 1 for both zero or infinite."""
    same = nearest == norms
    return np.where(same, 1.0, nearest / np.where(same, 1.0, norms))


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first test images in `[0, 1]` with their labels, or noise."""
    count = 4 if arguments.smoke else arguments.images
    if arguments.data is None:
        return noise(count)
    with np.load(arguments.data) as file:
        images, labels = file["x_test"][:count], file["y_test"][:count]
    return (images[..., None] / 255).astype(np.float32), labels.astype(np.int64)


def main() -> None:
    """Searches, and prints the table."""
    arguments = parse_arguments()
    if arguments.smoke:
        arguments.steps = 2
    stored = arguments.model
    model = keras.saving.load_model(stored) if stored else madry_network()
    header = ("norm", "attack", "passes", "median norm", "optimality", "found")
    print_report(
        f"Smallest perturbations of {arguments.name}",
        header,
        [row for norm in arguments.norms for row in measure(model, norm, arguments)],
        notes=(
            f"{arguments.images} images, seed {arguments.seed}. "
            "Passes are forward + backward, at most, for an image.\n"
            "Optimality is the mean, over the images, of the smallest norm that any "
            "attack of\nthe table found over that of this attack."
        ),
    )


if __name__ == "__main__":
    main()
