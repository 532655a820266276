"""Few draws first, many at the end, against many throughout: passes and each image.

python benchmarks/eot_strength.py --data cifar10.npz

Trains a small CIFAR-10 network, puts four random defences around or into it, and
attacks the images that each classifies correctly on most draws. An image's result is
the share of fresh draws on which it is right.
"""

import argparse
from collections.abc import Iterator

import keras
import numpy as np
from cifar10_images import cifar10
from l1_l2_strength import network
from timing import print_report, verdict

from keras_advdef.attacks import APGD, PGD, Attack
from keras_advdef.layers import RandomResizePad
from keras_advdef.surgery import insert_noise, insert_pruning, to_variational

EPSILON = 2 / 255
DRAWS, EARLY = 20, 4
# Fresh draws by which an attacked image is judged.
JUDGED = 50
MOST_PASSES = 0.35
# Weaker by more than this many points of mean accuracy fails.
MOST_POINTS = 0.5


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="CIFAR-10, .npz in the layout of keras.datasets")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=200, help="images attacked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.images, arguments.epochs = 4, 1
    return arguments


def fit(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, *, epochs: int
) -> keras.Model:
    """Returns the model, trained."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(images, labels, batch_size=128, epochs=epochs, verbose=2)
    return model


def defended(
    images: np.ndarray, labels: np.ndarray, *, epochs: int
) -> Iterator[tuple[str, keras.Model]]:
    """Yields the four random models by name."""
    plain = fit(network(), images, labels, epochs=epochs)
    more = max(1, epochs // 4)

    def tuned(model: keras.Model) -> keras.Model:
        return fit(model, images, labels, epochs=more)

    yield "RSE", tuned(insert_noise(plain, first=0.1, inner=0.05, copy=True))
    resized = keras.Sequential(
        [keras.Input((32, 32, 3)), RandomResizePad(36), keras.layers.Resizing(32, 32)]
    )
    yield "resize-pad", keras.Sequential([*resized.layers, *plain.layers])
    yield "SAP", insert_pruning(plain, sampling="bernoulli")
    yield (
        "Adv-BNN",
        tuned(
            to_variational(
                plain, copy=True, prior_stddev=0.1, kl_weight=0.1 / len(images)
            )
        ),
    )


def right(
    attack: Attack,
    model: keras.Model,
    arrays: tuple[np.ndarray, np.ndarray],
    *,
    judged: int,
) -> np.ndarray:
    """Returns the share of fresh draws on which each image is right."""
    images, labels = arrays
    draws = range(1000, 1000 + judged)
    each = [attack.predict(model, images, seed=seed) == labels for seed in draws]
    return np.mean(each, axis=0)


def compare(
    attack: Attack,
    model: keras.Model,
    arrays: tuple[np.ndarray, np.ndarray],
    *,
    judged: int,
    seed: int,
) -> list[str]:
    """Returns the cells of one attack on one model."""
    images, labels = arrays
    few = attack.replace(early_eot_samples=EARLY)
    standing = []
    for each in (attack, few):
        found = each.generate(model, images, labels, seed=seed, verbose=0)
        standing.append(right(each, model, (found, labels), judged=judged))
    many, less = standing
    share = sum(few.passes(10)) / sum(attack.passes(10))
    points = 100 * (less.mean() - many.mean())
    return [
        str(attack),
        str(len(labels)),
        f"{100 * many.mean():.1f} %",
        f"{100 * less.mean():.1f} %",
        str(int(((many <= 0.5) & (less > 0.5)).sum())),
        str(int(((many > 0.5) & (less <= 0.5)).sum())),
        f"{points:+.2f}",
        *verdict(points, MOST_POINTS),
        f"{share:.3f}",
        *verdict(share, MOST_PASSES),
    ]


def main() -> None:
    """Trains, attacks and prints the table."""
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    judged, steps = (4, 10) if arguments.smoke else (JUDGED, 50)
    x, y, *tests = cifar10(arguments.data, tests=2000, smoke=arguments.smoke)
    attacks = [PGD(EPSILON, steps=steps), APGD(EPSILON, steps=steps // 2)]
    rows = []
    for name, model in defended(x, y, epochs=arguments.epochs):
        stands = right(attacks[0], model, tuple(tests), judged=judged) > 0.5
        if arguments.smoke:
            stands[:] = True
        arrays = tuple(each[stands][: arguments.images] for each in tests)
        for attack in attacks:
            averaged = attack.replace(eot_samples=DRAWS)
            cells = compare(averaged, model, arrays, judged=judged, seed=arguments.seed)
            rows.append([name, *cells])
    print_report(
        f"{EARLY} draws, then {DRAWS}, against {DRAWS} throughout",
        (
            *(
                "defence",
                "attack",
                "images",
                f"{DRAWS} draws",
                f"{EARLY}, then {DRAWS}",
            ),
            *("only many break", "only few first break", "points weaker", "target", ""),
            *("share of passes", "target", ""),
        ),
        rows,
        notes=f"linf {EPSILON:.4g}, seed {arguments.seed}, {len(x)} training images, "
        f"{arguments.epochs} epochs.\nMean accuracy over {judged} draws; an image "
        "is broken if it is wrong on half of them.",
    )


if __name__ == "__main__":
    main()
