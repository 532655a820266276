"""Small data for the tests of the command line."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.cli.demo._budget import Budget
from keras_advdef.cli.demo._run import DemoRun
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef_command.demo_flags import DemoFlags


@pytest.fixture
def demo_run(arrays):
    """A run with made-up counts: no training, no attack."""
    right = np.arange(12) % 2
    curves = {
        name: [AccuracyEstimate(12 - slope * step, 12) for step in range(6)]
        for name, slope in (("undefended", 2), ("defended", 1))
    }
    return DemoRun(
        flags=DemoFlags(
            data="toy", output=Path("out"), epsilon=None, epochs=None, seed=0
        ),
        budget=Budget(epsilon=0.2, epochs=1, train_images=40, test_images=12),
        dataset=Dataset.from_arrays("toy", **arrays),
        attack=PGD(0.2, steps=40),
        curves=curves,
        checks={name: better_than_chance(right, right) for name in curves},
        started=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        seconds={"Train defended": 1.234},
    )
