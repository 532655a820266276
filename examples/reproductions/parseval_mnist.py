"""Parseval networks on MNIST (Cisse et al., ICML 2017): accuracy against SNR.

    python examples/reproductions/parseval_mnist.py --data mnist.npz

Trains the same dense network plainly, with weight decay, and as a Parseval network.
Prints accuracy under FGSM at the signal-to-noise ratios of the paper's figure, the
singular values, and the epochs that each took to reach 97 %; then the accuracy of each
under converged attacks.
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

from keras_advdef.attacks import FGSM
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.surgery import parseval_network

TITLE = "Cisse et al. 2017: Parseval networks on MNIST"
MEAN, DEVIATION = 0.1307, 0.3081
UNITS, SMOKE_UNITS, HIDDEN = 512, 32, 4
BATCH_SIZE = 128
EPOCHS = 12
RATE = 0.05
DECAY = 5e-3
BETA = 0.003
REACHED = 0.97
ATTACKED = 200
EPSILONS = (0.1, 0.3)
# Read from the authors' figure, to about 0.2 points, for 2048 units: plain SGD, weight
# decay, Parseval.
PAPER = {
    50.7: ("97.3 %", "97.9 %", "98.4 %"),
    33.9: ("93.4 %", "95.9 %", "97.3 %"),
    25.4: ("76.7 %", "88.1 %", "92.8 %"),
    21.2: ("50.1 %", "71.4 %", "84.3 %"),
    17.0: ("16.8 %", "35.8 %", "56.3 %"),
    12.8: ("2.2 %", "5.7 %", "15.3 %"),
}
NAMES = ("SGD", "SGD, weight decay", "Parseval")


def network(units: int) -> keras.Model:
    """Returns a dense network of four hidden layers that ends in logits."""
    hidden = [keras.layers.Dense(units, activation="relu") for _ in range(HIDDEN)]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            # Mean zero and deviation one, so that nets of slope one can be confident.
            keras.layers.Rescaling(1 / DEVIATION, -MEAN / DEVIATION),
            keras.layers.Flatten(),
            *hidden,
            keras.layers.Dense(10),
        ]
    )


def trained(
    name: str, data: Mnist, *, smoke: bool, seed: int
) -> tuple[keras.Model, str]:
    """Returns a trained network, and the epoch that first reached 97 % on test images.

    Args:
        name: One of `NAMES`.
        data: MNIST.
        smoke: Whether to use a narrow net and one epoch.
        seed: Fixes weights and order.
    """
    keras.utils.set_random_seed(seed)
    model = network(SMOKE_UNITS if smoke else UNITS)
    if name == "Parseval":
        model = parseval_network(model, beta=BETA)
    decay = DECAY if "decay" in name else None
    epochs = 1 if smoke else EPOCHS
    steps = epochs * max(1, len(data.train_images) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, weight_decay=decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print(f"{name}:")
    history = model.fit(
        data.train_images,
        data.train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(data.test_images, data.test_labels),
        verbose=2,
    ).history["val_accuracy"]
    reached = np.flatnonzero(np.array(history) >= REACHED)
    return model, str(reached[0] + 1) if len(reached) else "not reached"


def right_at(model: keras.Model, data: Mnist, decibels: float) -> int:
    """Returns how many test images are right under FGSM at a signal-to-noise ratio.

    Args:
        model: The network.
        data: MNIST.
        decibels: 20 times the decimal logarithm of the images' l2 norm over their
            perturbations'; one epsilon for all.
    """
    images, labels = data.test_images, data.test_labels
    pixels = int(np.prod(images.shape[1:]))
    size = float(np.linalg.norm(images.reshape(len(images), -1), axis=1).mean())
    epsilon = size / 10 ** (decibels / 20) / pixels**0.5
    attack = FGSM(epsilon)
    found = attack.generate(model, images, labels, batch_size=500, verbose=0)
    return int((attack.predict(model, found, batch_size=500) == labels).sum())


def extremes(model: keras.Model) -> str:
    """Returns the smallest and the largest singular value of all kernels."""
    values = np.concatenate(
        [
            np.linalg.svd(layer.kernel, compute_uv=False)
            for layer in model.layers
            if isinstance(layer, keras.layers.Dense)
        ]
    )
    return f"{values.min():.3f} to {values.max():.3f}"


def adaptive(
    model: keras.Model, data: Mnist, epsilon: float, *, smoke: bool, seed: int
) -> str:
    """Returns accuracy under the quick budget's attacks, as text.

    Args:
        model: The network.
        data: MNIST.
        epsilon: Of the attacks, in linf.
        smoke: Whether to use only a few images.
        seed: Fixes every draw.
    """
    count = 8 if smoke else ATTACKED
    images, labels = data.test_images[:count], data.test_labels[:count]
    report = quick_report(model, images, labels, epsilon=epsilon, seed=seed)
    return percent_of(report.adaptive)


def main() -> None:
    """Trains, attacks and prints the tables."""
    arguments = parse_arguments(__file__, "Parseval networks on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    options = {"smoke": arguments.smoke, "seed": arguments.seed}
    with Clock() as clock:
        models, reached = {}, {}
        for name in NAMES:
            models[name], reached[name] = trained(name, data, **options)
        count = len(data.test_images)
        rows = [["clean", *_pairs(models, data, None)]]
        rows += [
            [f"FGSM, {level:g} dB", *_pairs(models, data, level)] for level in PAPER
        ]
        facts_of = [
            ["singular values", *(extremes(each) for each in models.values())],
            ["epochs to 97 %", *reached.values()],
        ]
        for epsilon in EPSILONS:
            row = [adaptive(each, data, epsilon, **options) for each in models.values()]
            facts_of.append([f"all attacks, linf {epsilon}", *row])
    header = ["MNIST", *(part for name in NAMES for part in (name, "the paper's"))]
    body = f"{table(header, rows)}\n\n{table(['', *NAMES], facts_of)}\n\n"
    body += (
        "Brackets are 95 % Clopper-Pearson intervals. The paper's numbers are read "
        "from its figure; its networks have\n2048 units in each layer. The paper "
        "measured only one step of FGSM; the last rows are under converged attacks."
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(data.train_images)} MNIST training and {count} test images; all "
        f"attacks of the quick budget (PGD-20, APGD-25, Square) on {ATTACKED}",
        "Training": f"{HIDDEN} hidden layers of {UNITS}; {EPOCHS} epochs of batches of "
        f"{BATCH_SIZE}, SGD {RATE:g} along a cosine with momentum 0.9; weight decay "
        f"{DECAY:g}; Parseval beta {BETA:g}, no decay",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


def _pairs(
    models: dict[str, keras.Model], data: Mnist, level: float | None
) -> list[str]:
    """Returns our numbers, each followed by the paper's."""
    cells, count = [], len(data.test_images)
    for index, model in enumerate(models.values()):
        if level is None:
            outputs = model.predict(data.test_images, batch_size=500, verbose=0)
            right = int((outputs.argmax(axis=-1) == data.test_labels).sum())
            paper = ("97.6 %", "98.2 %", "98.5 %")[index]
        else:
            right, paper = right_at(model, data, level), PAPER[level][index]
        cells += [percent(right, count), paper]
    return cells


if __name__ == "__main__":
    main()
