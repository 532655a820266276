"""Robust accuracy of averaged weights, by what BatchNormalization's statistics are of.

python benchmarks/averaged_weights_strength.py --data mnist.npz

Trains a small network with BatchNormalization three ways and averages its weights. Then
compares the moving averages of the raw weights with statistics that
`SwapAveragedWeights` recomputes from clean and from attacked training images.
"""

import argparse

import keras
import numpy as np
from timing import print_report

from keras_advdef.attacks import NFGSM, PGD
from keras_advdef.callbacks import SwapAveragedWeights
from keras_advdef.objectives import TRADES
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 0.15
ATTACK = PGD(EPSILON, steps=20)
BATCH = 128


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="MNIST, .npz in the layout of keras.datasets")
    parser.add_argument("--images", type=int, default=6000, help="training images")
    parser.add_argument("--given", type=int, default=2000, help="for the statistics")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.images = arguments.given = arguments.test_images = 64
        arguments.epochs = arguments.seeds = 1
    return arguments


def load(arguments: argparse.Namespace) -> list[np.ndarray]:
    """Returns training and test images in `[0, 1]` with their labels."""
    if arguments.data is None:
        generator = np.random.default_rng(0)
        counts = (arguments.images, arguments.test_images)
        pairs = [
            (generator.uniform(size=(n, 28, 28)), generator.integers(0, 10, n))
            for n in counts
        ]
    else:
        with np.load(arguments.data, allow_pickle=False) as file:
            pairs = [
                (file["x_train"][: arguments.images] / 255.0, file["y_train"]),
                (file["x_test"][: arguments.test_images] / 255.0, file["y_test"]),
            ]
    return [
        array
        for images, labels in pairs
        for array in (
            images[..., None].astype("float32"),
            labels[: len(images)].astype("int32"),
        )
    ]


def network(seed: int) -> keras.Model:
    """Returns a small convolutional network with BatchNormalization."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    body = []
    for filters in (16, 32):
        convolution = layers.Conv2D(filters, 4, 2, "same", use_bias=False)
        body += [convolution, layers.BatchNormalization(), layers.ReLU()]
    dense = layers.Dense(100, activation="relu")
    return keras.Sequential(
        [keras.Input((28, 28, 1)), *body, layers.Flatten(), dense, layers.Dense(10)]
    )


def trained(
    way: str, images: np.ndarray, labels: np.ndarray, *, epochs: int, seed: int
) -> AdversarialTrainingModel:
    """Returns a model with averaged weights and the statistics of the raw ones."""
    attack = NFGSM(EPSILON) if way == "N-FGSM" else PGD(EPSILON, steps=5)
    objective = TRADES(beta=6.0) if way.startswith("TRADES") else None
    model = AdversarialTrainingModel(network(seed), attack, objective, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3, use_ema=True), loss)
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def recompute(model: keras.Model, given: list[np.ndarray], *, attacked: bool) -> None:
    """Gives a trained model the statistics of some images."""
    swap = SwapAveragedWeights(*given, adversarial=attacked, batch_size=BATCH)
    # No epoch is left: only what happens at the end of training does.
    model.fit(*given, epochs=1, initial_epoch=1, callbacks=[swap], verbose=0)


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the accuracy under the attack."""
    attacked = ATTACK.generate(model, images, labels, seed=0, verbose=0)
    return float(np.mean(ATTACK.predict(model, attacked, seed=0) == labels))


def main() -> None:
    """Trains, recomputes, attacks and prints the table."""
    arguments = parse_arguments()
    x, y, xt, yt = load(arguments)
    given = [x[: arguments.given], y[: arguments.given]]
    rows = []
    for way in ("PGD-5", "TRADES, beta 6, PGD-5", "N-FGSM"):
        found = []
        for seed in range(arguments.seeds):
            model = trained(way, x, y, epochs=arguments.epochs, seed=seed)
            start = model.get_weights()
            shares = [accuracy(model, xt, yt)]
            for attacked in (False, True):
                model.set_weights(start)
                recompute(model, given, attacked=attacked)
                shares.append(accuracy(model, xt, yt))
            found.append(shares)
        means = np.mean(found, axis=0)
        rows.append([way, *(f"{100 * each:.1f} %" for each in means)])
    print_report(
        "Averaged weights, by the statistics of BatchNormalization",
        (
            *("trained by", "moving averages of the raw weights"),
            *("recomputed, clean images", "recomputed, attacked images"),
        ),
        rows,
        notes=f"Accuracy under PGD-20, linf {EPSILON}: {len(xt)} test images of MNIST, "
        f"mean of the seeds 0 to {arguments.seeds - 1}.\n{len(x)} training images, "
        f"{arguments.epochs} epochs of batches of {BATCH}, Adam at 0.002, weights "
        f"averaged with momentum 0.99;\nstatistics of {len(given[0])} training images.",
    )


if __name__ == "__main__":
    main()
