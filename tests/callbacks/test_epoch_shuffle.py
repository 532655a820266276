import json
import os
import runpy
import signal
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest

from keras_advdef.callbacks import EpochShuffle

# Trains a random model; dies in the middle of an epoch where it is told to.
TRAIN = """
import os, signal, sys
import keras, numpy as np
from keras_advdef.callbacks import EpochShuffle
from keras_advdef.layers import RandomNoise

backup, weights, killed = sys.argv[1], sys.argv[2], sys.argv[3] == "killed"
keras.utils.set_random_seed(0 if killed or backup == "none" else 7)
model = keras.Sequential([
    keras.Input((6,)), RandomNoise(0.1, seed=1), keras.layers.Dense(4, "relu"),
    keras.layers.Dense(3)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)

class Kill(keras.callbacks.Callback):
    epoch = 0
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if killed and self.epoch == 2 and batch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

shuffle = EpochShuffle(seed=5)
generator = np.random.default_rng(0)
x = generator.normal(size=(64, 6)).astype("float32")
batches = shuffle.dataset(x, generator.integers(0, 3, 64), batch_size=10)
callbacks = [shuffle, Kill()]
if backup != "none":
    callbacks.append(keras.callbacks.BackupAndRestore(backup))
model.fit(batches, epochs=4, shuffle=False, callbacks=callbacks, verbose=0)
np.savez(weights, *[np.array(w) for w in model.weights])
"""


def _run(folder, *arguments, alone=False):
    """Runs the script here, or in a process of its own that may die."""
    script = folder / "train.py"
    script.write_text(TRAIN)
    command = [str(script), *map(str, arguments)]
    if alone:
        return subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            check=False,
            timeout=300,
        ).returncode
    with mock.patch.object(sys, "argv", command):
        return runpy.run_path(script)


def _labels(batches):
    return np.concatenate([labels.numpy() for _, labels in batches]).tolist()


@pytest.fixture
def arrays():
    return np.arange(23.0).reshape(23, 1), np.arange(23)


class TestEpochShuffle:
    def test_order_is_a_function_of_seed_and_epoch(self, arrays):
        orders = {}
        for seed in (0, 1):
            shuffle = EpochShuffle(seed)
            batches = shuffle.dataset(*arrays, batch_size=5)
            # Backwards, as no uninterrupted run comes by.
            for epoch in (2, 0, 1, 2):
                shuffle.on_epoch_begin(epoch)
                order = _labels(batches)
                assert sorted(order) == list(range(23))
                assert orders.setdefault((seed, epoch), order) == order
        distinct = {tuple(order) for order in orders.values()}
        assert len(distinct) == len(orders)

    def test_rows_stay_together(self, arrays):
        shuffle = EpochShuffle(3)
        weights = 2.0 * arrays[1]
        for x, y, weight in shuffle.dataset(*arrays, weights, batch_size=4):
            np.testing.assert_array_equal(x[:, 0], y)
            np.testing.assert_array_equal(weight, 2.0 * y.numpy())

    @pytest.mark.parametrize(("drop", "count"), [(False, 5), (True, 4)])
    def test_last_partial_batch(self, drop, count, arrays):
        batches = EpochShuffle().dataset(*arrays, batch_size=5, drop_remainder=drop)
        assert len(batches) == count
        assert len(list(batches)) == count

    def test_fit_sees_the_order_of_each_epoch(self, arrays):
        seen = []

        class Watching(keras.Sequential):
            def train_step(self, data):
                seen.append(data[0].numpy()[:, 0].tolist())
                return super().train_step(data)

        model = Watching([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        shuffle = EpochShuffle(4)
        batches = shuffle.dataset(*arrays, batch_size=23)
        options = {"shuffle": False, "callbacks": [shuffle], "verbose": 0}
        model.fit(batches, epochs=3, **options)
        whole = seen[:]
        model.fit(batches, initial_epoch=2, epochs=3, **options)
        assert seen[-1] == whole[2]
        assert whole[0] != whole[1] != whole[2]

    @pytest.mark.slow
    @pytest.mark.nightly
    def test_killed_run_ends_with_the_same_weights(self, tmp_path):
        whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
        _run(tmp_path, "none", whole, "whole")
        killed = _run(tmp_path, tmp_path / "backup", resumed, "killed", alone=True)
        assert killed == -signal.SIGKILL
        assert not resumed.exists()
        _run(tmp_path, tmp_path / "backup", resumed, "goes on")
        with np.load(whole) as first, np.load(resumed) as second:
            assert first.files == second.files
            for name in first.files:
                np.testing.assert_array_equal(first[name], second[name])

    def test_survives_serialisation(self):
        config = json.loads(json.dumps(EpochShuffle(9).get_config()))
        assert EpochShuffle.from_config(config).seed == 9

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            ((), {}, "arrays of one length of at least 1"),
            ((np.zeros(3), np.zeros(4)), {}, r"Received: arrays=\[3, 4\]"),
            ((np.zeros(0),), {}, "at least 1"),
            ((np.zeros(3),), {"batch_size": 0}, "`batch_size` to be an integer"),
        ],
    )
    def test_bad_arrays(self, arguments, options, message):
        with pytest.raises(ValueError, match=message):
            EpochShuffle().dataset(*arguments, **options)

    def test_bad_seed(self):
        with pytest.raises(ValueError, match="`seed`"):
            EpochShuffle(-1)
