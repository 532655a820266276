"""APGD against the PGD of Foolbox and ART in the l2 and l1 ball, with equal passes.

python benchmarks/l1_l2_strength.py --data cifar10.npz

Trains a small CIFAR-10 network adversarially, and counts the test images that stay
right under each attack. Foolbox and ART take part if they are installed
(`pip install -e .[crosscheck]`).
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from cifar10_images import cifar10
from timing import print_report

from keras_advdef.attacks import APGD, PGD
from keras_advdef.training import AdversarialTrainingModel

EPSILONS = {"l2": 0.5, "l1": 12.0}
STEPS = 40
TRAINING_EPSILON = 0.5
TRAINING_STEPS = 5
REACH = 2.5


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help=".npz in the layout of keras.datasets")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=500, help="test images attacked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    return parser.parse_args()


def network() -> keras.Model:
    """Returns a small convolutional network that ends in logits."""
    layers = keras.layers
    convolution = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, **convolution),
            layers.Conv2D(32, 3, strides=2, **convolution),
            layers.Conv2D(64, 3, **convolution),
            layers.Conv2D(64, 3, strides=2, **convolution),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int) -> keras.Model:
    """Returns a network trained on its own PGD images in the l2 ball."""
    classifier = network()
    attack = PGD(TRAINING_EPSILON, norm="l2", steps=TRAINING_STEPS, return_best=False)
    model = AdversarialTrainingModel(classifier, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(images, labels, batch_size=128, epochs=epochs, verbose=2)
    return classifier


Crafting = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ours(model: keras.Model, norm: str, seed: int) -> dict[str, Crafting]:
    """Returns this package's attacks by name."""
    attacks = [
        APGD(norm=norm, steps=STEPS),
        PGD(norm=norm, steps=STEPS),
    ]
    arguments: dict[str, Any] = {"epsilon": EPSILONS[norm], "seed": seed, "verbose": 0}
    return {
        f"keras_advdef {attack}": lambda images, labels, attack=attack: attack.generate(
            model, images, labels, **arguments
        )
        for attack in attacks
    }


def foolbox_attacks(model: keras.Model, norm: str) -> dict[str, Crafting]:
    """Returns Foolbox's PGD with steps of 2.5 epsilon / steps."""
    import foolbox
    import tensorflow as tf

    attack = {"l2": foolbox.attacks.L2PGD, "l1": foolbox.attacks.L1PGD}[norm]
    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        run = attack(rel_stepsize=REACH / STEPS, steps=STEPS, random_start=True)
        inputs = tf.constant(images), tf.constant(labels)
        return run(wrapped, *inputs, epsilons=EPSILONS[norm])[1].numpy()

    return {f"Foolbox {attack.__name__}-{STEPS}": craft}


def art_attacks(model: keras.Model, norm: str) -> dict[str, Crafting]:
    """Returns ART's PGD with steps of 2.5 epsilon / steps."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=model,
        nb_classes=10,
        input_shape=(32, 32, 3),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    attack = ProjectedGradientDescent(
        classifier,
        norm={"l2": 2, "l1": 1}[norm],
        eps=EPSILONS[norm],
        eps_step=REACH * EPSILONS[norm] / STEPS,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=128,
        verbose=False,
    )
    return {f"ART PGD-{STEPS}": attack.generate}


def main() -> None:
    """Trains, attacks and prints the table."""
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    images, labels, test_images, test_labels = cifar10(
        arguments.data, tests=arguments.images, smoke=arguments.smoke
    )
    epochs = 1 if arguments.smoke else arguments.epochs
    model = train(images, labels, epochs=epochs)

    def left(batch: np.ndarray) -> str:
        return str((model.predict(batch, verbose=0).argmax(-1) == test_labels).sum())

    rows = [["clean", "-", left(test_images)]]
    for norm, epsilon in EPSILONS.items():
        crafts = ours(model, norm, arguments.seed)
        for package, attacks in (("foolbox", foolbox_attacks), ("art", art_attacks)):
            if importlib.util.find_spec(package):
                crafts |= attacks(model, norm)
        for name, craft in crafts.items():
            found = craft(test_images, test_labels)
            rows.append([name, f"{norm} {epsilon:g}", left(found)])
    print_report(
        "Strength in the l2 and l1 ball",
        ("attack", "epsilon", f"correct of {len(test_labels)}"),
        rows,
        notes=f"A CIFAR-10 network of 4 convolutions, trained {epochs} epochs on "
        f"{len(images)} images with\nPGD-{TRAINING_STEPS} in the l2 ball of "
        f"{TRAINING_EPSILON:g}, seed {arguments.seed}. {STEPS} gradient passes and one "
        "start per attack.",
    )


if __name__ == "__main__":
    main()
