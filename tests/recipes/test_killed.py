"""A run that is killed, in a process of its own, goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_advdef.recipes import harden
from tests.recipes.conftest import small_net, striped

_ROOT = Path(__file__).parents[2]
_SCRIPT = """
import sys
from keras_advdef.recipes import harden
from tests.recipes.conftest import small_net, striped
harden(small_net(), striped(90), striped(24, seed=1), epsilon=0.1, epochs=40,
       batch_size=16, precision="float32", patience=40, output=sys.argv[1])
"""


@pytest.mark.nightly
def test_continues_after_sigkill(tmp_path):
    folder = tmp_path / "out"
    command = [sys.executable, "-c", _SCRIPT, str(folder)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not (folder / "training.npz").exists() and process.poll() is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    with np.load(folder / "training.npz") as kept:
        done = json.loads(kept["facts"].tobytes())["facts"]["record"]["epochs"]
    assert 1 <= done < 40
    arguments = {"epsilon": 0.1, "epochs": 40, "batch_size": 16, "patience": 40}
    arguments |= {"precision": "float32", "verbose": 0}
    resumed, straight = small_net(), small_net()
    data = striped(90), striped(24, seed=1)
    found = harden(resumed, *data, output=folder, **arguments)
    expected = harden(straight, *data, **arguments)
    assert found.history == expected.history
    for one, other in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
