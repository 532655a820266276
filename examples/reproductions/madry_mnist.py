"""PGD adversarial training on MNIST, epsilon 0.3 (Madry et al., ICLR 2018).

    python examples/reproductions/madry_mnist.py --data mnist.npz

Trains the paper's network for minutes instead of 100 000 steps. Prints the accuracy on
clean test images and under PGD-40, beside the paper's.
"""

import keras
import tensorflow as tf
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

from keras_advdef.attacks import PGD
from keras_advdef.callbacks import PerturbationSchedule
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 0.3
ATTACK_STEPS = 7
BATCH_SIZE = 128
STEPS = 1650
# In this fraction of the steps epsilon grows from 0. With the full epsilon from the
# start, training stays on a plateau.
WARM_UP = 0.35
LEARNING_RATES = (5e-4, 1e-4)
DECAY_AT = 0.75
TEST_IMAGES = 1000


def madry_network() -> keras.Model:
    """Returns the paper's MNIST network, which ends in logits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(64, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(1024, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def train(data: Mnist, *, steps: int, seed: int) -> keras.Model:
    """Returns a network trained on PGD-7 images of itself.

    Args:
        data: MNIST.
        steps: Training steps.
        seed: Fixes weights, order and attacks.
    """
    classifier = madry_network()
    attack = PGD(EPSILON, steps=ATTACK_STEPS, return_best=False)
    model = AdversarialTrainingModel(classifier, attack)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [int(DECAY_AT * steps)], LEARNING_RATES
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    warm_up = keras.optimizers.schedules.PolynomialDecay(
        0.0, max(1, int(WARM_UP * steps)), EPSILON, power=1.0
    )
    batches = tf.data.Dataset.from_tensor_slices((data.train_images, data.train_labels))
    batches = batches.shuffle(len(data.train_images), seed=seed).repeat()
    batches = batches.batch(BATCH_SIZE, drop_remainder=True)
    model.fit(
        batches,
        steps_per_epoch=steps,
        callbacks=[PerturbationSchedule(warm_up)],
        shuffle=False,
    )
    return classifier


def main() -> None:
    """Trains, attacks and prints the table."""
    arguments = parse_arguments(__file__, "Madry et al. 2018 on MNIST")
    keras.utils.set_random_seed(arguments.seed)
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    steps = 2 if arguments.smoke else STEPS
    with Clock() as clock:
        classifier = train(data, steps=steps, seed=arguments.seed)
    images, labels = data.test_images[:TEST_IMAGES], data.test_labels[:TEST_IMAGES]
    counts = []
    for return_best in (False, True):
        attack = PGD(EPSILON, step_size=0.01, steps=40, return_best=return_best)
        clean, attacked = count_correct(
            classifier, images, labels, attack=attack, seed=arguments.seed
        )
        counts.append(attacked)
    total = len(images)
    rows = [
        ["accuracy on clean images", percent(clean, total), "98.8 %"],
        ["accuracy under PGD-40, last point", percent(counts[0], total), "93.2 %"],
        ["accuracy under PGD-40, strongest point", percent(counts[1], total), "-"],
    ]
    body = table(["MNIST, linf epsilon 0.3", "ours", "the paper's"], rows)
    body += (
        "\n\nBrackets are 95 % Clopper-Pearson intervals. The paper trained 100 000 "
        "steps with PGD-40\nand counts the attack's last point; the strongest point "
        "on the way is a stricter test."
    )
    publish(
        "Madry et al. 2018: PGD adversarial training on MNIST",
        body,
        facts={
            "Command": f"`{command(__file__, arguments)}`",
            "Seed": str(arguments.seed),
            "Data": f"{len(data.train_images)} MNIST training images; the first "
            f"{total} test images",
            "Training": f"{steps} steps of {BATCH_SIZE} images "
            f"({steps * BATCH_SIZE / len(data.train_images):.1f} epochs) with "
            f"PGD-{ATTACK_STEPS}; epsilon from 0 to {EPSILON} in the first "
            f"{100 * WARM_UP:.0f} % of the steps; Adam {LEARNING_RATES[0]:g}, after "
            f"{100 * DECAY_AT:.0f} % of the steps {LEARNING_RATES[1]:g}",
            "Attack": "PGD-40, step size 0.01, random start, one restart",
            "Training time": f"{clock}; the budget is 900 s on 2 cores",
        },
        output=arguments.output,
    )


if __name__ == "__main__":
    main()
