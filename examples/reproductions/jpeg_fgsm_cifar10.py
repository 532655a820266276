"""JPEG against FGSM, by size of the perturbation (Dziugaite et al. 2016).

    python examples/reproductions/jpeg_fgsm_cifar10.py --data cifar10-20k.npz

Trains a small net on CIFAR-10. Prints its accuracy under FGSM against epsilon:
undefended, with JPEG in front that the attack does not know about, and with JPEG that
the attack takes into account; and the same under PGD of twenty steps.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from cifar10 import load_cifar10
from reproduction import Clock, command, parse_arguments, percent, publish, table
from small_cifar10 import BATCH_SIZE, WIDTHS, fit, small_network

from keras_advdef.attacks import FGSM, PGD, Attack
from keras_advdef.layers import JPEGCompression

TITLE = "Dziugaite et al. 2016: JPEG against FGSM on CIFAR-10"
QUALITY = 75
EPOCHS = 14
RATE = 4e-3
LEVELS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
STEPS = 20
# Images that PGD attacks; FGSM attacks all.
ATTACKED = 500
COLUMNS = (
    "undefended, FGSM",
    f"JPEG {QUALITY}, FGSM that knows nothing of it",
    f"JPEG {QUALITY}, FGSM past it",
    f"undefended, PGD-{STEPS}",
    f"JPEG {QUALITY}, PGD-{STEPS} through its soft gradient",
)


def count_right(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> int:
    """Returns how many images a model has right."""
    logits = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    return int((logits.argmax(axis=-1) == labels).sum())


def curves(
    network: keras.Model, images: np.ndarray, labels: np.ndarray
) -> dict[int, list[tuple[int, int]]]:
    """Returns by level how many images are right, and of how many, for each column."""

    def behind_jpeg(gradient: str) -> keras.Model:
        front = JPEGCompression(QUALITY, gradient=gradient)
        return keras.Sequential([keras.Input((32, 32, 3)), front, network])

    straight, soft = behind_jpeg("straight_through"), behind_jpeg("soft")
    fgsm, pgd = FGSM(1 / 255), PGD(1 / 255, steps=STEPS)

    def attacked(level: int, model: keras.Model, attack: Attack) -> np.ndarray:
        part = slice(ATTACKED if attack is pgd else None)
        if not level:
            return images[part]
        options = {"epsilon": level / 255, "batch_size": 250, "verbose": 0}
        return attack.generate(model, images[part], labels[part], **options)

    found = {}
    for level in LEVELS:
        unknowing = attacked(level, network, fgsm)
        seen = [
            (network, unknowing),
            (straight, unknowing),
            (straight, attacked(level, straight, fgsm)),
            (network, attacked(level, network, pgd)),
            (straight, attacked(level, soft, pgd)),
        ]
        found[level] = [
            (count_right(model, each, labels[: len(each)]), len(each))
            for model, each in seen
        ]
    return found


def save_plot(found: dict[int, list[tuple[int, int]]], path: str) -> None:
    """Writes a picture of the accuracies against epsilon."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for column, name in enumerate(COLUMNS):
        pairs = [found[level][column] for level in LEVELS]
        shares = [100 * right / total for right, total in pairs]
        # Two of the lines nearly coincide.
        style = "--" if "past" in name else "-"
        axes.plot(LEVELS, shares, style, marker="o", markersize=4, label=name)
    axes.set_xlabel("epsilon (linf), in levels of 255")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Trains, attacks, and writes the table and the picture."""
    arguments = parse_arguments(__file__, "JPEG against FGSM, on CIFAR-10")
    keras.utils.set_random_seed(arguments.seed)
    data = load_cifar10(arguments.data, smoke=arguments.smoke)
    x_train, y_train, x_test, y_test = data
    with Clock() as clock:
        network = small_network()
        epochs = 1 if arguments.smoke else EPOCHS
        fit(network, x_train, y_train, epochs=epochs, rate=RATE)
        found = curves(network, x_test, y_test)
    rows = [
        [f"{level}/255", *(percent(right, total) for right, total in counts)]
        for level, counts in found.items()
    ]
    body = (
        f"{table(['epsilon', *COLUMNS], rows)}\n\n"
        "The paper claims that JPEG reverses small perturbations of FGSM but not large "
        "ones, and tests an attack that does\nnot know about JPEG. One step past JPEG, "
        "with the identity as its gradient, does hardly better: the images here\nhave "
        "been through JPEG once, so it starts from the same gradient. Several steps "
        "through a differentiable\napproximation (Shin, Song 2017) find perturbations "
        "that survive compression. FGSM is a weak attack, and none of these\nnumbers "
        "is a robust accuracy. Brackets are 95 % Clopper-Pearson intervals."
    )
    if arguments.output is not None:
        picture = arguments.output.with_suffix(".png")
        save_plot(found, str(picture))
        body += f"\n\n![Accuracy against epsilon]({picture.name})"
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(x_train)} CIFAR-10 training images, which have been through "
        f"JPEG once before; FGSM on all {len(x_test)} test images, PGD on the first "
        f"{ATTACKED}",
        "Network": f"six convolutions of {WIDTHS} filters, {epochs} epochs of Adam "
        f"{RATE:g} along a cosine, shifts and mirrors, trained without JPEG",
        "Time": f"{clock} in all",
    }
    publish(TITLE, body, facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
