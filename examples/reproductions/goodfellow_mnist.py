"""FGSM adversarial training on MNIST, epsilon 0.25 (Goodfellow et al., ICLR 2015).

    python examples/reproductions/goodfellow_mnist.py --data mnist.npz

Trains the same network with and without adversarial training. Prints the error on clean
test images, under FGSM and under PGD-40, beside the paper's.
"""

import keras
from mnist_data import Mnist, load_mnist
from reproduction import (
    Clock,
    command,
    count_correct,
    parse_arguments,
    percent,
    publish,
    table,
)

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.objectives import AdversarialCrossEntropy
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 0.25
BATCH_SIZE = 128
EPOCHS = 10
LEARNING_RATE = 1e-3
# Errors in the paper's sections 4 and 6, on clean and on FGSM images.
PAPER = {"without": ("0.94 %", "89.4 %"), "with": ("0.84 %", "17.9 %")}


def dense_network() -> keras.Model:
    """Returns a network of dense layers that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def train(data: Mnist, *, adversarial: bool, epochs: int, seed: int) -> keras.Model:
    """Returns a network trained on clean images, or on clean and FGSM images.

    Args:
        data: MNIST.
        adversarial: Whether half of the loss is on FGSM images.
        epochs: Passes over the training images.
        seed: Fixes weights and order.
    """
    keras.utils.set_random_seed(seed)
    classifier = dense_network()
    model = classifier
    if adversarial:
        objective = AdversarialCrossEntropy(clean_weight=0.5)
        model = AdversarialTrainingModel(classifier, FGSM(EPSILON), objective)
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        data.train_images,
        data.train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2,
    )
    return classifier


def errors(classifier: keras.Model, data: Mnist, seed: int) -> list[str]:
    """Returns the error on clean test images, under FGSM and under PGD-40."""
    images, labels = data.test_images, data.test_labels
    total = len(images)
    shown = []
    for attack in (FGSM(EPSILON), PGD(EPSILON, step_size=0.01, steps=40)):
        clean, attacked = count_correct(
            classifier, images, labels, attack=attack, seed=seed
        )
        shown.append(percent(total - attacked, total))
    return [percent(total - clean, total), *shown]


def main() -> None:
    """Trains both networks, attacks them and prints the table."""
    arguments = parse_arguments(__file__, "Goodfellow et al. 2015 on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    epochs = 1 if arguments.smoke else EPOCHS
    rows = []
    with Clock() as clock:
        for name, paper in PAPER.items():
            classifier = train(
                data, adversarial=name == "with", epochs=epochs, seed=arguments.seed
            )
            clean, fgsm, pgd = errors(classifier, data, arguments.seed)
            rows.append([name, clean, paper[0], fgsm, paper[1], pgd])
    header = ["adversarial training", "clean error", "the paper's", "FGSM error"]
    header += ["the paper's", "PGD-40 error"]
    body = table(header, rows)
    body += (
        "\n\nBrackets are 95 % Clopper-Pearson intervals. The paper trained maxout "
        "networks with dropout;\nours has dense layers of 512, 512 and 10 units. A low "
        "error under one FGSM step\nsays little: PGD-40 in the same ball breaks both "
        "networks."
    )
    publish(
        "Goodfellow et al. 2015: FGSM adversarial training on MNIST",
        body,
        facts={
            "Command": f"`{command(__file__, arguments)}`",
            "Seed": str(arguments.seed),
            "Data": f"{len(data.train_images)} MNIST training and "
            f"{len(data.test_images)} test images",
            "Training": f"{epochs} epochs of batches of {BATCH_SIZE}, Adam "
            f"{LEARNING_RATE:g}; half of the loss clean, half on FGSM images",
            "Attacks": f"linf epsilon {EPSILON}; FGSM from the clean image; PGD-40 of "
            "step size 0.01 from a random start, strongest point",
            "Time": f"{clock} for both networks and all attacks",
        },
        output=arguments.output,
    )


if __name__ == "__main__":
    main()
