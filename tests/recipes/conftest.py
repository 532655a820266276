"""A small net, its data, and reports that cost nothing."""

import keras
import numpy as np
import pytest

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.recipes._harden import run

SIDE, CLASSES = 6, 3


def small_net(*, seed=3, dropout=True):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(6, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.2 if dropout else 0.0),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def striped(count, *, seed=0):
    """Images brighter in the columns of their class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = generator.uniform(0.0, 0.5, (count, SIDE, SIDE, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[:, label::CLASSES] += 0.5
    return images, labels


class Lines(Progress):
    """Keeps the lines; interrupts after one that starts with `until`."""

    def __init__(self, until="never"):
        self.lines, self._until = [], until

    def line(self, text):
        self.lines.append(text)
        if text.startswith(self._until):
            raise KeyboardInterrupt


@pytest.fixture(scope="session")
def cheap_report():
    """A report of an untrained net, for tests that are about training."""
    images, labels = striped(6)
    return evaluate_robustness(
        small_net(), images, labels, epsilon=0.1, budget="quick", verbose=0
    )


@pytest.fixture
def unattacked(monkeypatch, cheap_report):
    """Hardens without the evaluations before and after."""
    monkeypatch.setattr(
        run, "evaluate_robustness", lambda *given, **named: cheap_report
    )
