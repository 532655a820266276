"""Deep Defense on MNIST (Yan, Guo, Zhang, NeurIPS 2018), beside what it is compared to.

    python examples/reproductions/deep_defense_mnist.py --data mnist.npz

Trains the authors' dense network, then fine-tunes copies of it: with Deep Defense, on
DeepFool's images (adversarial training), and as before. A Parseval network stands
beside them. Prints accuracy and the mean relative norm of DeepFool's perturbations, and
what attacks that converge leave of each.
"""

import keras
import numpy as np
from mnist_data import Mnist, load_mnist
from reproduction import Clock, command, parse_arguments, percent, publish, table

from keras_advdef.attacks import DeepFool
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.objectives import AdversarialCrossEntropy, DeepDefense
from keras_advdef.surgery import parseval_network
from keras_advdef.training import AdversarialTrainingModel

TITLE = "Yan et al. 2018: Deep Defense on MNIST"
BATCH_SIZE = 100
EPOCHS, MORE_EPOCHS = 15, 5
RATE, MORE_RATE = 0.05, 5e-3
BETA = 0.01
ATTACKED, SMOKE_ATTACKED = 500, 6
EPSILONS = (0.1, 0.3)
# Accuracy and rho_2, quoted from memory of the paper's table: no oracle.
PAPER = {
    "reference": ("98.3 %", "0.111"),
    "Parseval": ("98.3 %", "0.111"),
    "on DeepFool's images": ("98.5 %", "0.162"),
    "Deep Defense": ("98.7 %", "0.225"),
}


def network() -> keras.Model:
    """Returns the authors' network, 784-500-150-10; logits."""
    hidden = [keras.layers.Dense(units, activation="relu") for units in (500, 150)]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            *hidden,
            keras.layers.Dense(10),
        ]
    )


def fit(model: keras.Model, data: Mnist, *, epochs: int, rate: float) -> None:
    """Trains a model with a rate that falls along a cosine.

    Args:
        model: The model; it is compiled here.
        data: MNIST.
        epochs: Passes over the training images.
        rate: The first learning rate.
    """
    steps = max(1, len(data.train_images) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.train_images,
        data.train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2,
    )


def models(data: Mnist, *, smoke: bool, seed: int) -> dict[str, keras.Model]:
    """Returns the four trained networks by name.

    Args:
        data: MNIST.
        smoke: Whether one epoch does.
        seed: Fixes weights and order.
    """
    keras.utils.set_random_seed(seed)
    epochs, more = (1, 1) if smoke else (EPOCHS, MORE_EPOCHS)
    reference, parseval = network(), parseval_network(network(), beta=BETA)
    for each in (reference, parseval):
        fit(each, data, epochs=epochs, rate=RATE)
    weights = reference.get_weights()

    def tuned(attack: DeepFool | None, **options: object) -> keras.Model:
        copy = network()
        copy.set_weights(weights)
        training = AdversarialTrainingModel(copy, attack, **options)
        fit(training, data, epochs=more, rate=MORE_RATE)
        return copy

    mixed = AdversarialCrossEntropy(clean_weight=0.5)
    far = float(np.prod(data.train_images.shape[1:])) ** 0.5
    return {
        "reference": tuned(None),
        "Parseval": parseval,
        "on DeepFool's images": tuned(DeepFool(far, steps=5), objective=mixed),
        "Deep Defense": tuned(None, penalties=[DeepDefense()]),
    }


def row(
    name: str, model: keras.Model, data: Mnist, *, smoke: bool, seed: int
) -> list[str]:
    """Returns the cells of one network.

    Args:
        name: What it is.
        model: The network.
        data: MNIST.
        smoke: Whether a few images do.
        seed: Fixes every draw.
    """
    outputs = model.predict(data.test_images, batch_size=500, verbose=0)
    right = int((outputs.argmax(axis=-1) == data.test_labels).sum())
    count = SMOKE_ATTACKED if smoke else ATTACKED
    images, labels = data.test_images[:count], data.test_labels[:count]
    found = DeepFool().search(model, images, labels, seed=seed, verbose=0)
    sizes = np.linalg.norm(images.reshape(count, -1), axis=1)
    is_found = np.isfinite(found.norms)
    ratio = float((found.norms[is_found] / sizes[is_found]).mean())
    cells = [name, percent(right, len(outputs)), PAPER[name][0]]
    cells += [f"{ratio:.3f}", PAPER[name][1]]
    for epsilon in EPSILONS:
        report = evaluate_robustness(
            model,
            images,
            labels,
            epsilon=epsilon,
            budget="quick",
            curve=[],
            seed=seed,
        )
        cells.append(percent_of(report.adaptive))
    return cells


def main() -> None:
    """Trains, attacks and prints the table."""
    arguments = parse_arguments(__file__, "Deep Defense on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    options = {"smoke": arguments.smoke, "seed": arguments.seed}
    with Clock() as clock:
        rows = [
            row(name, model, data, **options)
            for name, model in models(data, **options).items()
        ]
    header = [
        "784-500-150-10",
        "clean",
        "the paper's",
        "relative norm of DeepFool",
        "the paper's",
        *(f"all attacks, linf {epsilon}" for epsilon in EPSILONS),
    ]
    body = f"{table(header, rows)}\n\n" + (
        "The relative norm is the mean of ||perturbation|| / ||image|| in l2, wrong "
        "images counted as zero. The paper's\nnumbers are quoted elsewhere from "
        "memory, and its images had their mean taken away, which makes ratios 1.3 "
        "times as\nlarge. Brackets hold 95 % Clopper-Pearson intervals."
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(data.train_images)} MNIST training and {len(data.test_images)} "
        f"test images; DeepFool and the quick budget (PGD-20, APGD-25, Square) on "
        f"{ATTACKED}",
        "Training": f"{EPOCHS} epochs, then {MORE_EPOCHS} more of each but Parseval "
        f"(beta {BETA:g}), batches of {BATCH_SIZE}, SGD {RATE:g} and {MORE_RATE:g} "
        "along a cosine with momentum 0.9; Deep Defense with its defaults",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
