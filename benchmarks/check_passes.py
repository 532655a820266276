"""How many passes of a model the checks of a standard evaluation take.

python benchmarks/check_passes.py

Trains a small net on scikit-learn's digits, plainly and adversarially, evaluates both
on 1000 other digits, and counts the images that go forward and backward through them.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from timing import print_report

from keras_advdef.attacks import PGD
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.training import AdversarialTrainingModel

EPSILON = 0.1
# Parts of an evaluation that no attack of the budget needs, by how their names start.
CHECKS = {
    "check-decision": "decisions_vs_white_box",
    "distilled": "a net for transfer_vs_white_box",
    "check-transfer": "transfer_vs_white_box",
    "true-gradients": "true_gradients",
    "planted": "attacks_find_planted_perturbation",
    "longer": "attack_converged",
    "roughness": "smooth_loss",
    "full-range": "accuracy_reaches_zero",
    "closing": "settled",
}


class PassCounter(keras.layers.Layer):
    """Counts the images that pass it, forward and backward."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Not a weight: what attacks a model must not change it.
        zeros = np.zeros(2, np.int64)
        self.counts = [tf.Variable(zero, trainable=False) for zero in zeros]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the inputs."""
        forward, backward = self.counts
        images = tf.shape(inputs, tf.int64)[0]

        @tf.custom_gradient
        def counted(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
            forward.assign_add(images)

            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                backward.assign_add(images)
                return tf.identity(upstream)

            return tf.identity(inputs), gradient

        return counted(inputs)

    def taken(self) -> np.ndarray:
        """Returns the counts so far, `(2,)`."""
        return np.array([int(each) for each in self.counts])


@contextlib.contextmanager
def counted_by_part(counter: PassCounter) -> Iterator[dict[str, np.ndarray]]:
    """Yields what the counter counts in each part of an evaluation, `(2,)` each."""
    passes: dict[str, np.ndarray] = {}
    part = Ledger.part

    def counted(ledger: Ledger, name: str, *rest: Any) -> Arrays:
        before = counter.taken()
        arrays = part(ledger, name, *rest)
        passes[name] = passes.get(name, 0) + counter.taken() - before
        return arrays

    with mock.patch.object(Ledger, "part", counted):
        yield passes


def digits(count: int) -> tuple[np.ndarray, ...]:
    """Returns scikit-learn's digits, for training, and `count` for the attacks."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = (found.images[order, ..., None] / 16).astype("float32")
    labels = found.target[order]
    return images[1000:], labels[1000:], images[:count], labels[:count]


def trained(
    images: np.ndarray, labels: np.ndarray, *, robust: bool, epochs: int
) -> Any:
    """Returns a small net, trained adversarially if it is to be robust."""
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model = AdversarialTrainingModel(net, PGD(EPSILON, steps=7)) if robust else net
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    return net


def rows_of(
    passes: dict[str, np.ndarray], whole: np.ndarray, net: str
) -> list[list[str]]:
    """Returns a row for each check, and for all of them."""
    by_check = {check: np.zeros(2, int) for check in CHECKS.values()}
    for name, counts in passes.items():
        for start, check in CHECKS.items():
            if name.startswith(start):
                by_check[check] += counts
    by_check["all of these"] = np.sum(list(by_check.values()), axis=0)
    rest = whole - by_check["all of these"]
    rows = []
    for check, counts in {**by_check, "all else": rest}.items():
        # A backward pass costs about as much as two forward passes.
        share = (counts @ (1, 2)) / (rest @ (1, 2))
        rows.append([net, check, f"{counts[0]:,}", f"{counts[1]:,}", f"{share:.3f}"])
    return rows


def main() -> None:
    """Evaluates both nets, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--smoke", action="store_true", help="a run that takes seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.images, arguments.budget = 10, "quick"
    *train, images, labels = digits(arguments.images)
    rows, said = [], []
    for name, robust in (("adversarially trained", True), ("plain", False)):
        epochs = 1 if arguments.smoke else 30
        net = trained(*train, robust=robust, epochs=epochs)
        counter = PassCounter()
        model = keras.Sequential([keras.Input((8, 8, 1)), counter, net])
        with counted_by_part(counter) as passes:
            before = counter.taken()
            report = evaluate_robustness(
                model,
                images,
                labels,
                epsilon=EPSILON,
                budget=arguments.budget,
                verbose=0,
            )
        rows += rows_of(passes, counter.taken() - before, name)
        said.append(f"{name}: {report.headline}")
    print_report(
        f"Passes of the checks, {arguments.budget} budget",
        ("net", "check", "images forward", "images backward", "share of all else"),
        rows,
        notes="A backward pass counts as two forward passes.\n\n" + "\n\n".join(said),
    )


if __name__ == "__main__":
    main()
