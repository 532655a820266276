"""AutoAttack's fast version against the standard: passes made, and each image.

python benchmarks/auto_attack_strength.py --mnist mnist.npz --model adversarial.keras \
    --data cifar10.npz

Attacks an adversarially trained MNIST network in the linf ball of 0.3, and a small
CIFAR-10 network, trained here, in that of 8/255. The images go in parts; what is
finished stays in `--folder`, and a second run continues from there.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from cifar10_images import cifar10
from l1_l2_strength import network
from mnist_strength import EPSILON, load, load_model
from timing import print_report, verdict

from keras_advdef.attacks import PGD, AutoAttack
from keras_advdef.training import AdversarialTrainingModel

CIFAR10_EPSILON = 8 / 255
TRAINING_STEPS = 3
VERSIONS = ("standard", "fast")
PART = 200
# Shares of the standard's passes, and points of accuracy, that the fast version may
# take and lose.
MOST_PASSES, MOST_POINTS = 0.3, 0.2

passes = {
    name: tf.Variable(0, dtype=tf.int64, trainable=False)
    for name in ("forward", "backward")
}


class Counted(keras.layers.Layer):
    """Hands images on, and counts those of each pass in `passes`."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images."""

        @tf.custom_gradient
        def counted(values):
            count = tf.shape(values, out_type=tf.int64)[0]
            passes["forward"].assign_add(count)

            def gradient(upstream):
                passes["backward"].assign_add(count)
                return upstream

            return tf.identity(values), gradient

        return counted(images)


class Target(NamedTuple):
    """A network, and what attacks it.

    Attributes:
        name: "mnist" or "cifar10".
        model: The network.
        images: Images in `[0, 1]`.
        labels: Their classes.
        epsilon: Radius of the linf ball.
    """

    name: str
    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    epsilon: float

    def part(self, rows: slice) -> "Target":
        """Returns the target with some of its images."""
        return self._replace(images=self.images[rows], labels=self.labels[rows])


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", help="MNIST, .npz in the layout of keras.datasets")
    parser.add_argument("--model", help="adversarially trained .keras model for MNIST")
    parser.add_argument("--data", help="CIFAR-10, .npz in the layout of keras.datasets")
    parser.add_argument("--folder", type=Path, help="where finished parts are kept")
    parser.add_argument("--epochs", type=int, default=6, help="of the CIFAR-10 network")
    parser.add_argument("--images", type=int, default=1000, help="test images attacked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32"
    )
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.images, arguments.epochs = 8, 1
    return arguments


def targets(arguments: argparse.Namespace) -> Iterator[Target]:
    """Yields the networks that the command line gives data for."""
    if arguments.model or arguments.smoke:
        images, labels = load(arguments.mnist, arguments.images)
        yield Target("mnist", load_model(arguments.model), images, labels, EPSILON)
    if arguments.data or arguments.smoke:
        x, y, images, labels = cifar10(
            arguments.data, tests=arguments.images, smoke=arguments.smoke
        )
        path = arguments.folder and arguments.folder / "cifar10.keras"
        if path and path.is_file():
            model = load_model(str(path))
        else:
            model = train(x, y, arguments)
        if path:
            model.save(path)
        yield Target("cifar10", model, images, labels, CIFAR10_EPSILON)


def train(
    images: np.ndarray, labels: np.ndarray, arguments: argparse.Namespace
) -> keras.Model:
    """Returns a network trained on its own PGD images."""
    keras.utils.set_random_seed(arguments.seed)
    classifier = network()
    reach = {"steps": TRAINING_STEPS, "step_size": CIFAR10_EPSILON / 2}
    attack = PGD(CIFAR10_EPSILON, return_best=False, **reach)
    model = AdversarialTrainingModel(classifier, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(images, labels, batch_size=128, epochs=arguments.epochs, verbose=2)
    return classifier


def attacked(
    target: Target, version: str, arguments: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Returns which images one version leaves, and what it cost.

    Returns:
        "left", whether each image is still right; "forward", "backward" and "seconds",
        sums.
    """
    sizes = {"steps": 4, "queries": 5} if arguments.smoke else {}
    attack = AutoAttack(
        target.epsilon, version=version, precision=arguments.precision, **sizes
    )
    shape = target.images.shape[1:]
    net = keras.Sequential(
        [keras.Input(shape), Counted(autocast=False), *target.model.layers]
    )
    parts = []
    for start in range(0, len(target.images), PART):
        rows = slice(start, min(start + PART, len(target.images)))
        name = f"{target.name}-{version}-{arguments.precision}-{rows.start}-{rows.stop}"
        path = arguments.folder and arguments.folder / f"{name}.npz"
        if path and path.is_file():
            with np.load(path) as file:
                part = dict(file)
        else:
            part = crafted(attack, net, target.part(rows), seed=arguments.seed)
        if path:
            np.savez(path, **part)
        parts.append(part)
        print(f"{name}: {part['left'].sum()} left", file=sys.stderr, flush=True)
    total = {name: sum(part[name] for part in parts) for name in (*passes, "seconds")}
    return {**total, "left": np.concatenate([part["left"] for part in parts])}


def crafted(
    attack: AutoAttack, net: keras.Model, part: Target, *, seed: int
) -> dict[str, np.ndarray]:
    """Attacks some images; see `attacked`."""
    for each in passes.values():
        each.assign(0)
    start = time.process_time()
    found = attack.generate(net, part.images, part.labels, seed=seed, verbose=0)
    cost = {name: each.numpy() for name, each in passes.items()}
    cost["seconds"] = np.float64(time.process_time() - start)
    left = part.model.predict(found, verbose=0).argmax(-1) == part.labels
    return {"left": left, **cost}


def compare(target: Target, arguments: argparse.Namespace) -> None:
    """Attacks a network in both versions, and prints the tables."""
    standard, fast = (attacked(target, each, arguments) for each in VERSIONS)
    count = len(target.labels)
    each = [sum(int(run[name]) for name in passes) / count for run in (standard, fast)]
    points = 100 * (int(fast["left"].sum()) - int(standard["left"].sum())) / count
    rows = [
        [
            version,
            f"{run['left'].sum()} of {count}",
            f"{run['forward'] / count:.0f}",
            f"{run['backward'] / count:.0f}",
            f"{run['seconds']:.0f} s",
        ]
        for version, run in zip(VERSIONS, (standard, fast), strict=True)
    ]
    notes = (
        f"linf {target.epsilon:.4g}, passes in {arguments.precision}, seed "
        f"{arguments.seed}. Passes are those made, per image, the padding of batches\n"
        "included. Times are the processor's."
    )
    print_report(
        f"AutoAttack's versions on {target.name}",
        ("version", "correct", "forward", "backward", "time"),
        rows,
        notes=notes,
    )
    ratio = each[1] / each[0]
    print_report(
        f"The targets on {target.name}",
        ("fast against standard", "measured", "target", ""),
        [
            ["share of the passes", f"{ratio:.3f}", *verdict(ratio, MOST_PASSES)],
            ["points weaker", f"{points:+.2f}", *verdict(points, MOST_POINTS)],
        ],
        notes="Both passes count alike.",
    )
    counts = [
        [str(int((one & other).sum())) for other in (~fast["left"], fast["left"])]
        for one in (~standard["left"], standard["left"])
    ]
    print_report(
        f"Each image of {target.name} both ways",
        ("", "fast breaks", "fast leaves"),
        [
            ["standard breaks", *counts[0]],
            ["standard leaves", *counts[1]],
        ],
        notes="Images that are wrong without an attack count as broken.",
    )


def main() -> None:
    """Attacks and prints the tables."""
    arguments = parse_arguments()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    for target in targets(arguments):
        compare(target, arguments)


if __name__ == "__main__":
    main()
