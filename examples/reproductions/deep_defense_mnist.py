"""Deep Defense on MNIST (Yan, Guo, Zhang, NeurIPS 2018).

    python examples/reproductions/deep_defense_mnist.py --data mnist.npz

Trains the paper's dense network, and fine-tunes copies of it on DeepFool's images and
with Deep Defense. Trains a Parseval network for comparison. Prints clean accuracy, the
relative norm of DeepFool's perturbations and accuracy under FGSM, each beside the
paper's number; then the smallest perturbation that FAB finds, and the accuracy under
converged attacks.
"""

import keras
import numpy as np
from mnist_data import Mnist, load_mnist
from reproduction import (
    Clock,
    command,
    parse_arguments,
    percent,
    publish,
    quick_report,
    table,
)

from keras_advdef.attacks import FAB, FGSM, DeepFool
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.objectives import AdversarialCrossEntropy, DeepDefense
from keras_advdef.surgery import parseval_network
from keras_advdef.training import AdversarialTrainingModel

TITLE = "Yan, Guo, Zhang 2018: Deep Defense on MNIST"
MEAN = 0.1307
BATCH_SIZE = 100
EPOCHS, RATE, DECAY = 12, 0.05, 5e-4
FINE_EPOCHS, FINE_RATE = 5, 0.01
BETA = 0.003
# In training, DeepFool stays within the pixels' range, which takes more steps.
TRAINING_ATTACK = DeepFool(1e3, steps=20, candidates=3)
MEASURED_STEPS = 5
SHARES = (0.2, 0.5, 1.0)
ATTACKED, SMOKE_ATTACKED = 500, 6
# Of these, as many go to the quick budget.
QUICK = 200
EPSILONS = (0.1, 0.3)
# Accuracy, relative norm, accuracy under FGSM at fractions of its largest epsilon.
PAPER = {
    "reference": ("98.31", "0.111", "72.76", "29.08", "3.31"),
    "Parseval": ("98.32", "0.111", "77.44", "28.95", "2.96"),
    "DeepFool's images": ("98.49", "0.162", "87.70", "59.69", "22.55"),
    "Deep Defense": ("98.65", "0.225", "95.04", "88.93", "50.00"),
}
REFERENCE, PARSEVAL, ADVERSARIAL, DEFENDED = PAPER


def network() -> keras.Model:
    """Returns the paper's dense network, which ends in logits."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1.0, -MEAN),
            layers.Flatten(),
            layers.Dense(500, activation="relu"),
            layers.Dense(150, activation="relu"),
            layers.Dense(10),
        ]
    )


def fit(
    training: keras.Model,
    data: Mnist,
    *,
    rate: float,
    decay: float | None,
    epochs: int,
) -> None:
    """Trains a model, with half the learning rate in the last fifth.

    Args:
        training: The model.
        data: MNIST.
        rate: Learning rate.
        decay: Weight decay, or `None`.
        epochs: Passes over the data.
    """
    steps = epochs * max(1, len(data.train_images) // BATCH_SIZE)
    boundary = max(1, steps * 4 // 5)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [boundary], [rate, rate / 2]
    )
    training.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    training.fit(
        data.train_images,
        data.train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2,
    )


def trained(data: Mnist, *, smoke: bool, seed: int) -> dict[str, keras.Model]:
    """Returns the four networks by name.

    Args:
        data: MNIST.
        smoke: Whether to train each for one epoch only.
        seed: Fixes weights, order and draws.
    """
    epochs, fine_epochs = (1, 1) if smoke else (EPOCHS, FINE_EPOCHS)
    models = {}
    for name, decay in ((REFERENCE, DECAY), (PARSEVAL, None)):
        keras.utils.set_random_seed(seed)
        model = network()
        if name == PARSEVAL:
            model = parseval_network(model, beta=BETA)
        print(f"{name}:")
        fit(model, data, rate=RATE, decay=decay, epochs=epochs)
        models[name] = model
    start = models[REFERENCE].get_weights()
    for name in (ADVERSARIAL, DEFENDED):
        keras.utils.set_random_seed(seed)
        model = network()
        model.set_weights(start)
        training = (
            AdversarialTrainingModel(
                model, TRAINING_ATTACK, AdversarialCrossEntropy(0.5), seed=seed
            )
            if name == ADVERSARIAL
            else AdversarialTrainingModel(model, penalties=[DeepDefense()])
        )
        print(f"{name}:")
        fit(training, data, rate=FINE_RATE, decay=DECAY, epochs=fine_epochs)
        models[name] = model
    return models


def relative_norm(model: keras.Model, data: Mnist) -> float:
    """Returns the paper's rho: the mean of DeepFool's norm over the image's.

    Args:
        model: The network.
        data: MNIST.
    """
    measure = DeepDefense(steps=MEASURED_STEPS)
    # As in the paper, relative to images of mean zero: in `[0, 1]` norms are larger.
    lengths, ratios = [], []
    for start in range(0, len(data.test_images), 500):
        images = data.test_images[start : start + 500]
        labels = data.test_labels[start : start + 500]
        ratio, _ = measure.ratios(model, images, labels)
        norms, centred = (
            np.linalg.norm(each.reshape(len(each), -1), axis=1)
            for each in (images, images - MEAN)
        )
        lengths.append(norms / centred)
        ratios.append(ratio)
    return float((np.concatenate(ratios) * np.concatenate(lengths)).mean())


def under_fgsm(
    model: keras.Model, data: Mnist, epsilon: float, *, seed: int
) -> tuple[int, int]:
    """Returns how many test images stay right under FGSM, and how many there are.

    Args:
        model: The network.
        data: MNIST.
        epsilon: Of the attack, in linf.
        seed: Fixes every draw.
    """
    attack = FGSM(epsilon)
    found = attack.generate(
        model, data.test_images, data.test_labels, seed=seed, batch_size=500, verbose=0
    )
    predicted = attack.predict(model, found, batch_size=500)
    return int((predicted == data.test_labels).sum()), len(predicted)


def halving_epsilon(model: keras.Model, data: Mnist, *, seed: int) -> float:
    """Returns the epsilon at which FGSM leaves half of the test images right.

    Args:
        model: The network.
        data: MNIST.
        seed: Fixes every draw.
    """
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        right, count = under_fgsm(model, data, middle, seed=seed)
        low, high = (middle, high) if right > count / 2 else (low, middle)
    return high


def row(
    name: str, model: keras.Model, data: Mnist, *, halving: float, seed: int
) -> list[str]:
    """Returns the cells of the paper's table, ours and theirs.

    Args:
        name: Name of the network.
        model: The network.
        data: MNIST.
        halving: The epsilon that halves the accuracy of Deep Defense.
        seed: Fixes every draw.
    """
    paper = PAPER[name]
    clean = percent(*under_fgsm(model, data, 0.0, seed=seed))
    cells = [name, clean, f"{paper[0]} %"]
    cells += [f"{relative_norm(model, data):.3f}", paper[1]]
    for share, theirs in zip(SHARES, paper[2:], strict=True):
        right, count = under_fgsm(model, data, share * halving, seed=seed)
        cells += [f"{100 * right / count:.1f} % / {theirs} %"]
    return cells


def attacked(
    name: str, model: keras.Model, data: Mnist, *, smoke: bool, seed: int
) -> list[str]:
    """Returns the cells of the stronger attacks.

    Args:
        name: Name of the network.
        model: The network.
        data: MNIST.
        smoke: Whether to use only a few images.
        seed: Fixes every draw.
    """
    count = SMOKE_ATTACKED if smoke else ATTACKED
    images, labels = data.test_images[:count], data.test_labels[:count]
    attack = FAB(norm="l2", steps=5 if smoke else 50)
    found = attack.search(model, images, labels, seed=seed, verbose=0)
    cells = [name, f"{found.norms[np.isfinite(found.norms)].mean():.3f}"]
    for epsilon in EPSILONS:
        report = quick_report(model, images, labels, epsilon=epsilon, seed=seed)
        cells.append(percent_of(report.adaptive))
    return cells


def main() -> None:
    """Trains, attacks and prints the tables."""
    arguments = parse_arguments(__file__, "Deep Defense on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    seed, smoke = arguments.seed, arguments.smoke
    with Clock() as clock:
        models = trained(data, smoke=smoke, seed=seed)
        halving = halving_epsilon(models[DEFENDED], data, seed=seed)
        rows = [
            row(name, model, data, halving=halving, seed=seed)
            for name, model in models.items()
        ]
        stronger = [
            attacked(name, model, data, smoke=smoke, seed=seed)
            for name, model in models.items()
        ]
    header = ["dense net 784-500-150-10", "clean", "the paper's"]
    header += ["relative norm of DeepFool", "the paper's"]
    header += [f"FGSM at {share} / the paper's" for share in SHARES]
    second = ["", "mean l2 norm of FAB-50"]
    second += [f"all attacks, linf {epsilon}" for epsilon in EPSILONS]
    body = f"{table(header, rows)}\n\n{table(second, stronger)}\n\n" + (
        "FGSM is given in fractions of the epsilon at which Deep Defense still has "
        f"half of the images right, here {halving:.3f} in\nlinf. Norms are relative to "
        "images of mean zero, as in the paper, whose numbers are quoted from memory. "
        "Brackets\nare 95 % Clopper-Pearson intervals."
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(seed),
        "Data": f"{len(data.train_images)} MNIST training and {len(data.test_images)} "
        f"test images; FAB on {ATTACKED}, the quick budget (PGD-20, APGD-25, Square) "
        f"on {QUICK} of them",
        "Training": f"{EPOCHS} epochs of batches of {BATCH_SIZE}, SGD {RATE:g} with "
        f"momentum 0.9 and weight decay {DECAY:g} (Parseval: beta {BETA:g}, no decay), "
        "half the rate in the last fifth",
        "Fine-tuning": f"{FINE_EPOCHS} epochs at {FINE_RATE:g}; DeepFool of "
        f"{TRAINING_ATTACK.steps} steps, its images half of the loss; Deep Defense "
        "with its defaults (weight 15, scales 25 and 5, 5 steps)",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
