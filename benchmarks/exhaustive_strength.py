"""Whether attacks without regard to time break what a standard evaluation leaves.

python benchmarks/exhaustive_strength.py --data mnist.npz --model adversarial.keras

Evaluates a model with the standard budget. Then ten restarts of PGD-200 with each of
three losses, PGD-200 towards each wrong class, and a long Square attack the same
images, and it is counted which of them only one of the two breaks.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Iterator

import keras
import numpy as np
from madry_network import madry_network, noise
from timing import print_report

from keras_advdef.attacks import PGD, Attack, Square
from keras_advdef.evaluation import evaluate_robustness

EPSILON = 0.3
LOSSES = ("cross_entropy", "margin", "dlr")
_BATCH = 200

# Images and their labels.
Data = tuple[np.ndarray, np.ndarray]


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="MNIST as .npz in the layout of keras.datasets")
    parser.add_argument("--model", help="adversarially trained .keras model")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32"
    )
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    return parser.parse_args()


def load(arguments: argparse.Namespace, model: keras.Model) -> Data:
    """Returns the first test images in `[0, 1]` with their labels, or noise.

    Noise gets the classes that the model sees in it, so that there is what to break.
    """
    if arguments.data is None:
        images, _ = noise(arguments.images)
        return images, model.predict(images, verbose=0).argmax(-1)
    with np.load(arguments.data) as file:
        images, labels = (file[f"{part}_test"][: arguments.images] for part in "xy")
    return (images[..., None] / 255).astype(np.float32), labels.astype(np.int64)


def left_by_standard(
    model: keras.Model, data: Data, arguments: argparse.Namespace
) -> np.ndarray:
    """Returns which images a report says are right under all its attacks."""
    report = evaluate_robustness(
        model,
        *data,
        epsilon=EPSILON,
        budget="quick" if arguments.smoke else "standard",
        precision=arguments.precision,
        seed=arguments.seed,
        verbose=0,
    )
    print(report.headline, file=sys.stderr, flush=True)
    left = np.array(
        [_is_left(row) for row in csv.DictReader(io.StringIO(report.images))]
    )
    if left.mean() != report.adaptive["accuracy"]:
        raise RuntimeError("The images of the report do not add up to its accuracy.")
    return left


def _is_left(row: dict[str, str]) -> bool:
    """Whether an image of `images.csv` is right under everything that was tried."""
    norm = row.pop("norm")
    attacked = [value for name, value in row.items() if name not in ("index", "label")]
    return "0" not in attacked and (not norm or float(norm) > EPSILON)


def attacks_in_order(
    arguments: argparse.Namespace, classes: int
) -> Iterator[tuple[str, Attack, int]]:
    """Yields each attack with its name and the rank of its target, 0 without one."""
    settings = {"precision": arguments.precision}
    steps = {"steps": arguments.steps, **settings}
    for loss in LOSSES:
        attack = PGD(EPSILON, restarts=arguments.restarts, loss=loss, **steps)
        yield f"{attack} on {loss}", attack, 0
    attack = PGD(EPSILON, targeted=True, loss="margin", **steps)
    for rank in range(1, classes):
        yield f"{attack} on margin, likely class {rank}", attack, rank
    square = Square(EPSILON, queries=arguments.queries, **settings)
    yield str(square), square, 0


def attacked(
    model: keras.Model, data: Data, arguments: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields each attack's name, what it broke, and what all so far have left."""
    images, labels = data
    logits = model.predict(images, verbose=0)
    left = logits.argmax(-1) == labels
    logits[np.arange(len(labels)), labels] = -np.inf
    likely = np.argsort(-logits, axis=1)
    attacks = attacks_in_order(arguments, logits.shape[1])
    for number, (name, attack, rank) in enumerate(attacks):
        rows = np.flatnonzero(left)
        if not len(rows):
            return
        given = (
            {"target_labels": likely[rows, rank - 1]}
            if rank
            else {"labels": labels[rows]}
        )
        found = attack.generate(
            model,
            images[rows],
            **given,
            seed=arguments.seed + number,
            batch_size=_BATCH,
            verbose=0,
            stop_early=True,
        )
        inside = np.abs(found - images[rows]).max(axis=(1, 2, 3)) <= EPSILON + 1e-5
        wrong = model.predict(found, verbose=0).argmax(-1) != labels[rows]
        broken = rows[inside & wrong]
        left[broken] = False
        yield name, broken, left


def main() -> None:
    """Evaluates, attacks, and prints the table."""
    arguments = parse_arguments()
    if arguments.smoke:
        arguments.images = 8
        arguments.steps = arguments.restarts = arguments.queries = 2
    stored = arguments.model
    model = keras.saving.load_model(stored) if stored else madry_network()
    data = load(arguments, model)
    started = time.perf_counter()
    standard = left_by_standard(model, data, arguments)
    seconds = time.perf_counter() - started
    rows = [["standard evaluation", "-", f"{standard.sum()}", "-", f"{seconds:.0f} s"]]
    started = time.perf_counter()
    for name, broken, exhaustive in attacked(model, data, arguments):
        seconds = time.perf_counter() - started
        numbers = len(broken), exhaustive.sum(), standard[broken].sum()
        rows.append([name, *map(str, numbers), f"{seconds:.0f} s"])
        print(": ".join(rows[-1]), file=sys.stderr, flush=True)
        started = time.perf_counter()
    only = int((standard & ~exhaustive).sum()), int((exhaustive & ~standard).sum())
    print_report(
        "A standard evaluation against attacks without regard to time",
        ("attack", "broke", "images left", "left by the evaluation", "time"),
        rows,
        notes=(
            f"linf {EPSILON:g}, {len(standard)} images, seed {arguments.seed}, "
            f"passes in {arguments.precision}.\n"
            "The attacks after the first row get what those between leave. Broken by "
            "them and left by the evaluation:\n"
            f"{only[0]}; left by them and broken by the evaluation: {only[1]}."
        ),
    )


if __name__ == "__main__":
    main()
