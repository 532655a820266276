"""Defensive distillation on MNIST (Papernot et al., S&P 2016), and what broke it.

    python examples/reproductions/distillation_mnist.py --data mnist.npz

Trains students at temperatures 1, 20 and 100 and attacks each: JSMA, whose success
falls, and C&W, whose does not (Carlini, Wagner, S&P 2017); PGD on the cross-entropy,
whose gradient vanishes, and on the difference of logits ratio, which does not care.
"""

import keras
import numpy as np
from mnist_data import Mnist, load_mnist
from reproduction import Clock, command, parse_arguments, percent, publish, table

from keras_advdef.attacks import JSMA, PGD, CarliniWagner
from keras_advdef.core.gradients import input_gradient
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.training import DistillationTrainer

TITLE = "Papernot et al. 2016: defensive distillation on MNIST"
TEMPERATURES = (1.0, 20.0, 100.0)
BATCH_SIZE = 128
EPOCHS = 6
RATE = 1e-3
ATTACKED, SMOKE_ATTACKED = 100, 4
EPSILONS = (0.1, 0.3)
# As Carlini and Wagner summarise the paper's figure.
JSMA_SUCCESS = {1.0: "91 %", 20.0: "24 %", 100.0: "0.5 %"}


def network() -> keras.Model:
    """Returns the network of Carlini and Wagner, without dropout; logits."""
    layers = keras.layers
    stages = [
        layer
        for width in (32, 64)
        for layer in (
            layers.Conv2D(width, 3, activation="relu"),
            layers.Conv2D(width, 3, activation="relu"),
            layers.MaxPooling2D(),
        )
    ]
    dense = [layers.Dense(200, activation="relu") for _ in range(2)]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *stages,
            layers.Flatten(),
            *dense,
            layers.Dense(10),
        ]
    )


def student(data: Mnist, temperature: float, *, smoke: bool, seed: int) -> keras.Model:
    """Returns a student distilled at a temperature.

    Args:
        data: MNIST.
        temperature: Of the teacher's training and the student's.
        smoke: Whether one epoch does.
        seed: Fixes weights and order.
    """
    keras.utils.set_random_seed(seed)
    trainer = DistillationTrainer(network(), temperature=temperature)
    trainer.compile(keras.optimizers.Adam(RATE), metrics=["accuracy"])
    options = {
        "batch_size": BATCH_SIZE,
        "epochs": 1 if smoke else EPOCHS,
        "verbose": 2,
    }
    print(f"T = {temperature:g}:")
    trainer.fit_teacher(data.train_images, data.train_labels, **options)
    trainer.fit(data.train_images, data.train_labels, **options)
    return trainer.student


def gradients_of(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Returns the mean l2 norm of the cross-entropy's gradients, and the zeros' share.

    Args:
        model: The student.
        images: Clean images.
        labels: Their classes.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    _, _, slopes = input_gradient(
        lambda pixels: (loss(labels, model(pixels)), None),
        keras.ops.convert_to_tensor(images),
    )
    norms = np.linalg.norm(np.reshape(slopes, (len(images), -1)), axis=1)
    return float(norms.mean()), float((norms == 0).mean())


def row(
    model: keras.Model, data: Mnist, temperature: float, *, smoke: bool, seed: int
) -> list[str]:
    """Returns what the attacks leave of a student.

    Args:
        model: The student.
        data: MNIST.
        temperature: At which it was distilled.
        smoke: Whether a few images and steps do.
        seed: Fixes every draw.
    """
    outputs = model.predict(data.test_images, batch_size=500, verbose=0)
    right = outputs.argmax(axis=-1) == data.test_labels
    count = SMOKE_ATTACKED if smoke else ATTACKED
    images, labels = data.test_images[right][:count], data.test_labels[right][:count]
    targets = (labels.astype("int64") + 1) % 10
    few = {"steps": 5, "binary_search_steps": 2} if smoke else {}
    searches = (
        JSMA(theta=1.0, gamma=0.1429, targeted=True),
        CarliniWagner(targeted=True, **few),
    )
    cells = [f"{temperature:g}", percent(int(right.sum()), len(right))]
    for attack in searches:
        found = attack.search(
            model, images, labels, target_labels=targets, seed=seed, verbose=0
        )
        cells.append(percent(int(found.success.sum()), len(images)))
        if attack is searches[0]:
            cells.append(JSMA_SUCCESS[temperature])
    distance = float(np.median(found.norms))
    cells.append(f"{distance:.2f}" if np.isfinite(distance) else "-")
    for loss in ("cross_entropy", "dlr"):
        attack = PGD(EPSILONS[-1], steps=20, loss=loss)
        found = attack.generate(model, images, labels, seed=seed, verbose=0)
        stands = int((attack.predict(model, found) == labels).sum())
        cells.append(percent(stands, len(images)))
    size, zeros = gradients_of(model, images, labels)
    return [*cells, f"{size:.1e}", f"{100 * zeros:.0f} %"]


def adaptive(
    model: keras.Model, data: Mnist, epsilon: float, *, smoke: bool, seed: int
) -> list[str]:
    """Returns the naive and the adaptive accuracy under the quick budget, as text.

    Args:
        model: The student.
        data: MNIST.
        epsilon: Of the attacks, in linf.
        smoke: Whether a few images do.
        seed: Fixes every draw.
    """
    count = SMOKE_ATTACKED if smoke else ATTACKED
    report = evaluate_robustness(
        model,
        data.test_images[:count],
        data.test_labels[:count],
        epsilon=epsilon,
        budget="quick",
        curve=[],
        seed=seed,
    )
    shown = percent_of(report.adaptive) + "*" * report.data["masking_suspected"]
    return [percent_of(report.naive), shown]


def main() -> None:
    """Trains, attacks and prints the tables."""
    arguments = parse_arguments(__file__, "Defensive distillation on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    options = {"smoke": arguments.smoke, "seed": arguments.seed}
    rows, reports = [], []
    with Clock() as clock:
        for temperature in TEMPERATURES:
            model = student(data, temperature, **options)
            rows.append(row(model, data, temperature, **options))
            cells = [adaptive(model, data, each, **options) for each in EPSILONS]
            reports.append([f"{temperature:g}", *cells[0], *cells[1]])
    header = [
        "temperature",
        "clean",
        "JSMA succeeds",
        "the paper's",
        "C&W l2 succeeds",
        "its median norm",
        "right under PGD-20",
        "under PGD-20 on DLR",
        "input gradients",
        "of these zero",
    ]
    second = ["temperature"]
    for epsilon in EPSILONS:
        second += [f"naive, linf {epsilon}", f"all attacks, linf {epsilon}"]
    body = f"{table(header, rows)}\n\n{table(second, reports)}\n\n" + (
        "JSMA and C&W aim at the next class, from images that are right; PGD in linf "
        "0.3. Brackets hold 95 % Clopper-Pearson\nintervals. The gradients are those "
        "of the cross-entropy at T = 1: mean l2 norm, and the share that is zero in "
        "float32.\nA star: the report suspects gradient masking."
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(data.train_images)} MNIST training and {len(data.test_images)} "
        f"test images; attacks on {ATTACKED}",
        "Training": f"{EPOCHS} epochs of the teacher and as many of the student, "
        f"batches of {BATCH_SIZE}, Adam {RATE:g}",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
