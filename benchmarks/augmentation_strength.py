"""Adversarial training with augmentation inside the classifier and in the data.

python benchmarks/augmentation_strength.py --data cifar10.npz

Trains the same small CIFAR-10 network both ways from the same seed, and counts the test
images that stay right under PGD-20. Both ways should give the same result.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from cifar10_images import cifar10
from timing import print_report

from keras_advdef.attacks import PGD
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 8 / 255
TRAINING = PGD(EPSILON, steps=4)
ATTACK = PGD(EPSILON, steps=20)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help=".npz in the layout of keras.datasets")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=8000, help="training images")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    return parser.parse_args()


def augmentation(seed: int) -> list[keras.layers.Layer]:
    """Returns the augmentation that Keras's guides put at the front of a classifier."""
    return [
        keras.layers.RandomFlip("horizontal", seed=seed),
        keras.layers.RandomTranslation(0.125, 0.125, seed=seed),
    ]


def network(front: list[keras.layers.Layer]) -> keras.Model:
    """Returns a small convolutional network that ends in logits."""
    layers = keras.layers
    convolution = {"strides": 2, "padding": "same", "activation": "relu"}
    body = [layers.Conv2D(width, 3, **convolution) for width in (16, 32, 64)]
    head = [layers.Flatten(), layers.Dense(10)]
    return keras.Sequential([keras.Input((32, 32, 3)), *front, *body, *head])


def train(
    images: np.ndarray, labels: np.ndarray, *, inside: bool, epochs: int, seed: int
) -> tuple[keras.Model, float]:
    """Returns a network and the adversarial accuracy logged in its last epoch."""
    keras.utils.set_random_seed(seed)
    classifier = network(augmentation(seed) if inside else [])
    batches = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = batches.shuffle(len(images), seed=seed).batch(64, drop_remainder=True)
    if not inside:
        augment = keras.Sequential(augmentation(seed))
        batches = batches.map(lambda x, y: (augment(x, training=True), y))
    model = AdversarialTrainingModel(classifier, TRAINING, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    history = model.fit(batches, epochs=epochs, shuffle=False, verbose=2).history
    return classifier, history["adversarial_accuracy"][-1]


def main() -> None:
    """Trains both ways, attacks and prints the table."""
    arguments = parse_arguments()
    x, y, xt, yt = cifar10(
        arguments.data,
        images=arguments.images,
        tests=arguments.test_images,
        smoke=arguments.smoke,
    )
    epochs = 1 if arguments.smoke else arguments.epochs
    rows = []
    for where, inside in (("in the classifier", True), ("in the data", False)):
        settings = {"inside": inside, "epochs": epochs, "seed": arguments.seed}
        model, logged = train(x, y, **settings)
        attacked = ATTACK.generate(model, xt, yt, seed=arguments.seed, verbose=0)
        shares = [
            np.mean(model.predict(each, verbose=0).argmax(-1) == yt)
            for each in (xt, attacked)
        ]
        rows.append([where, *(f"{100 * each:.1f} %" for each in (*shares, logged))])
    print_report(
        "Augmentation in the classifier and in the data",
        ("augmentation", "clean", f"{ATTACK}", "logged in training"),
        rows,
        notes=f"keras_advdef, {len(x)} CIFAR-10 images, {epochs} epochs of "
        f"{TRAINING} at linf 8/255, flips and\ntranslations of an "
        f"eighth, seed {arguments.seed}; {len(xt)} test images.",
    )


if __name__ == "__main__":
    main()
