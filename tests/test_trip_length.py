"""The script in `benchmarks` counts the frames between an image and the net."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import keras_advdef

_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "trip_length.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("trip_length", _SCRIPT)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_trip_of_an_attack(module, labels):
    images = np.full((4, 8, 8, 1), 0.5, "float32")
    attack = keras_advdef.attacks.FGSM(0.1)
    trip = module.trip(lambda net: attack(net, images, labels[:4]))
    assert trip.stack[0] == ("attacks/attack.py", "Attack.__call__")
    assert ("attacks/stepped_attack.py", "SteppedAttack.perturb") in trip.stack
    assert set(trip.stack) <= trip.entered
    frames, files, functions, their_files = trip.row
    assert files < frames < functions
    assert files < their_files < functions


def test_nothing_of_the_package_is_no_trip(module):
    assert module.trip(lambda net: net(np.ones((1, 8, 8, 1)))).stack == []
