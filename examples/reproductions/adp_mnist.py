"""Adaptive diversity promoting on MNIST (Pang et al., ICML 2019), and adaptive attacks.

    python examples/reproductions/adp_mnist.py --data mnist.npz

Trains two ensembles of three members, one plainly and one with the regulariser. Prints
their accuracy under the paper's attacks of ten steps, beside the paper's numbers, and
then under attacks that converge: PGD-200, PGD-200 on the logits of each member, and the
rest of the quick budget.
"""

from collections.abc import Sequence

import keras
from mnist_data import Mnist, load_mnist
from reproduction import (
    Clock,
    command,
    count_correct,
    parse_arguments,
    percent,
    publish,
    quick_report,
    table,
)

from keras_advdef.attacks import FGSM, PGD, Attack
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.models import AveragingEnsemble
from keras_advdef.objectives import AdaptiveDiversityPromoting
from keras_advdef.training import AdversarialTrainingModel

TITLE = "Pang et al. 2019: adaptive diversity promoting on MNIST"
MEMBERS = 3
BATCH_SIZE = 128
EPOCHS = 8
ATTACKED = 1000
CONVERGED = (0.1, 0.15, 0.2)
# As quoted elsewhere; the paper's tables were not at hand.
PAPER = {
    "FGSM, 0.1": ("78.3 %", "96.3 %"),
    "FGSM, 0.2": ("21.5 %", "52.8 %"),
    "BIM-10, 0.1": ("52.3 %", "88.5 %"),
    "BIM-10, 0.15": ("12.2 %", "73.6 %"),
    "PGD-10, 0.1": ("50.7 %", "82.8 %"),
    "PGD-10, 0.15": ("6.3 %", "41.0 %"),
}


def attacks() -> dict[str, Attack]:
    """Returns the paper's attacks by name: ten steps of epsilon / 10 each."""

    def stepped(epsilon: float, *, random_start: bool) -> PGD:
        options = {"random_start": random_start, "return_best": False}
        return PGD(epsilon, steps=10, step_size=epsilon / 10, **options)

    return {
        "FGSM, 0.1": FGSM(0.1),
        "FGSM, 0.2": FGSM(0.2),
        "BIM-10, 0.1": stepped(0.1, random_start=False),
        "BIM-10, 0.15": stepped(0.15, random_start=False),
        "PGD-10, 0.1": stepped(0.1, random_start=True),
        "PGD-10, 0.15": stepped(0.15, random_start=True),
    }


def member() -> keras.Model:
    """Returns a small convolutional network without a softmax."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def train(
    objective: AdaptiveDiversityPromoting, data: Mnist, *, epochs: int, seed: int
) -> AveragingEnsemble:
    """Returns an ensemble whose members were trained together.

    Args:
        objective: What is minimised.
        data: MNIST.
        epochs: Passes over the training images.
        seed: Fixes weights and order.
    """
    keras.utils.set_random_seed(seed)
    ensemble = AveragingEnsemble([member() for _ in range(MEMBERS)])
    model = AdversarialTrainingModel(ensemble, objective=objective)
    model.compile(
        keras.optimizers.Adam(1e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(
        data.train_images,
        data.train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2,
    )
    return ensemble


def short_rows(
    ensembles: Sequence[AveragingEnsemble], data: Mnist, *, count: int, seed: int
) -> list[list[str]]:
    """Returns the rows of the paper's attacks.

    Args:
        ensembles: The plain one and the diverse one.
        data: MNIST.
        count: Attacked test images.
        seed: Fixes the draws.
    """
    images, labels = data.test_images[:count], data.test_labels[:count]
    rows, clean = [], []
    for name, attack in attacks().items():
        found = [
            count_correct(each, images, labels, attack=attack, seed=seed)
            for each in ensembles
        ]
        clean = [percent(before, len(labels)) for before, _ in found]
        ours = [percent(after, len(labels)) for _, after in found]
        rows.append([name, *ours, *PAPER[name]])
    return [["clean", *clean, "-", "-"], *rows]


def converged_rows(
    ensembles: Sequence[AveragingEnsemble], data: Mnist, *, smoke: bool, seed: int
) -> list[list[str]]:
    """Returns the rows of the attacks that the card of the ensemble asks for.

    Args:
        ensembles: The plain one and the diverse one.
        data: MNIST.
        smoke: Whether to use only a few images.
        seed: Fixes the draws.
    """
    count = 8 if smoke else len(data.test_labels)
    rows = []
    for epsilon in CONVERGED[:1] if smoke else CONVERGED:
        reports = [
            quick_report(
                each,
                data.test_images[:count],
                data.test_labels[:count],
                epsilon=epsilon,
                seed=seed,
            )
            for each in ensembles
        ]
        for name in ("PGD-200", "PGD-200 on MemberDLR"):
            after = [accuracy_after(report.data, name) for report in reports]
            rows.append([f"{name}, {epsilon:g}", *after, "-", "-"])
        worst = [percent_of(report.adaptive) for report in reports]
        rows.append([f"all attacks, {epsilon:g}", *worst, "-", "-"])
    return rows


def accuracy_after(data: dict, name: str) -> str:
    """Returns the accuracy after an attack and all before it, in percent.

    Args:
        data: The values of a report.
        name: The attack.
    """
    (left,) = [
        each["accuracy_after"] for each in data["attacks"] if each["name"] == name
    ]
    return f"{100 * left:.1f} %"


def main() -> None:
    """Trains, attacks and prints the table."""
    arguments = parse_arguments(__file__, "Adaptive diversity promoting on MNIST")
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    objectives = (
        AdaptiveDiversityPromoting(entropy_weight=0.0, diversity_weight=0.0),
        AdaptiveDiversityPromoting(),
    )
    epochs = 1 if arguments.smoke else EPOCHS
    with Clock() as clock:
        ensembles = [
            train(each, data, epochs=epochs, seed=arguments.seed) for each in objectives
        ]
        rows = short_rows(
            ensembles,
            data,
            count=10 if arguments.smoke else ATTACKED,
            seed=arguments.seed,
        )
        rows += converged_rows(
            ensembles, data, smoke=arguments.smoke, seed=arguments.seed
        )
    header = ["accuracy, linf", "plain", "ADP", "the paper's plain", "the paper's ADP"]
    body = table(header, rows) + (
        "\n\nThe first rows are the paper's attacks, on the ensemble's mean "
        "prediction. Ten steps do not converge, so these\nare not robust accuracies. "
        "The rows of PGD-200 give the accuracy, on the first 200 images, after it and "
        "all\nattacks before it; those of all attacks take the worst attack for each "
        "image. Brackets are 95 %\nClopper-Pearson intervals. The paper's members are "
        "ResNet-20s; its numbers are as quoted elsewhere, not\nchecked against its "
        "tables."
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(data.train_images)} MNIST training images; the paper's attacks "
        f"on the first {ATTACKED} test images, the others on the first 200",
        "Network": f"{MEMBERS} members of two convolutions and two dense layers, "
        f"{member().count_params()} weights each",
        "Training": f"{epochs} epochs of batches of {BATCH_SIZE}, Adam 0.001; entropy "
        "weight 2, diversity weight 0.5",
        "Evaluation": "the quick budget of `evaluate_robustness`, and what the card of "
        "the ensemble asks for",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
