"""Attacks and evaluation in a cluster of two processes."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.workers import cluster_of, reserved_ports, run_workers

_ROOT = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "examples" / "multi_worker.py"

WORKER = """
import json, os, sys
import numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, keras_advdef as advdef
me, output = strategy.cluster_resolver.task_id, sys.argv[1]
keras.utils.set_random_seed(me)
generator = np.random.default_rng(0)
x = generator.uniform(0, 1, (14, 6, 6, 1)).astype("float32")
y = generator.integers(0, 3, 14)
x[np.arange(14), y] = 1.0
with strategy.scope():
    model = keras.Sequential([
        keras.Input((6, 6, 1)), keras.layers.BatchNormalization(),
        keras.layers.Flatten(), keras.layers.Dense(3)])
# As after training, in which each worker keeps averages of its own.
model.layers[0].moving_mean.assign([0.2 * me])
attacks, given = advdef.attacks, {"batch_size": 4, "verbose": 0}
attack = attacks.PGD(0.1, steps=3, restarts=2)
def refused(call):
    try:
        with strategy.scope():
            call()
    except (ValueError, TypeError) as error:
        return str(error)
with strategy.scope():
    seeded = attack.generate(model, x, y, seed=1, **given)
    fresh = attack.generate(model, x, y, **given)
others = refused(lambda: attack.generate(model, x, (y + me) % 3, **given))
chosen = [attacks.APGD(0.1, steps=3)]
def report(**more):
    return advdef.evaluation.evaluate_robustness(
        model, x, y, attacks=chosen, curve=[0.05], budget="quick",
        **{"epsilon": 0.1, **given, **more})
class Stopped(advdef.core.progress.Progress):
    def update(self, attack, **state):
        if "smallest" in attack:
            raise ValueError("stopped on the chief")
lines = []
class Told(advdef.core.progress.Progress):
    def line(self, text):
        lines.append(text)
# Only the chief reports its progress, so only the chief stops; all hear of it.
folder = os.path.join(output, str(me))
stopped = refused(lambda: report(output=folder, verbose=Stopped()))
with strategy.scope():
    resumed = report(output=folder, verbose=Told())
    again = report(output=folder)
foreign = refused(lambda: report(output=folder, epsilon=0.2))
def told(report):
    return {key: value for key, value in report.data.items() if key != "run"}
found = {
    "seeded": seeded.tolist(), "fresh": fresh.tolist(), "others": others,
    "stopped": stopped, "lines": lines, "resumed": [told(resumed), resumed.images],
    "again": again.data == resumed.data, "foreign": foreign,
    "files": sorted(os.listdir(folder)) if os.path.exists(folder) else [],
    "average": float(model.layers[0].moving_mean[0])}
if me == 0:
    found["seeded_alone"] = attack.generate(model, x, y, seed=1, **given).tolist()
    alone = report()
    found["alone"] = [told(alone), alone.images]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What two workers found."""
    return run_workers(WORKER, tmp_path_factory.mktemp("output"))


@pytest.mark.slow
def test_two_workers_return_the_images_of_one_device(workers):
    chief, other = workers
    assert chief["seeded"] == other["seeded"] == chief["seeded_alone"]
    assert chief["fresh"] == other["fresh"]
    assert np.any(np.array(chief["fresh"]) != np.array(chief["seeded"]))
    assert [each["average"] for each in workers] == pytest.approx([0.0, 0.2])


@pytest.mark.slow
def test_workers_with_different_labels_are_refused(workers):
    for each in workers:
        assert "`images` to be the same on every worker" in each["others"]


@pytest.mark.slow
def test_two_workers_report_the_numbers_of_one_device(workers):
    chief, other = workers
    assert chief["resumed"] == other["resumed"] == chief["alone"]
    assert chief["again"]
    assert "report.html" in chief["files"]
    assert other["files"] == []


@pytest.mark.slow
def test_an_evaluation_of_two_workers_resumes(workers):
    chief, other = workers
    assert chief["stopped"] == other["stopped"] == "stopped on the chief"
    assert any("Resuming this evaluation" in line for line in chief["lines"])
    assert other["lines"] == []
    for each in workers:
        assert "It holds one that has another epsilon" in each["foreign"]


def _started(configs, output):
    """Starts `examples/multi_worker.py` on each worker."""
    command = [sys.executable, str(_EXAMPLE), "--smoke", "--epochs", "30"]
    command += ["--output", str(output)]
    given = {**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return [
        subprocess.Popen(command, env={**given, "TF_CONFIG": config}, **pipes)
        for config in configs
    ]


def _printed(workers):
    """What workers printed last: the losses and the headline of each."""
    with ThreadPoolExecutor(len(workers)) as pool:
        texts = [text for text, _ in pool.map(subprocess.Popen.communicate, workers)]
    assert [each.returncode for each in workers] == [0] * len(workers), texts
    found = []
    for text in texts:
        losses, headline = (line.split(": ", 1)[1] for line in text.splitlines()[-2:])
        found.append((json.loads(losses.removeprefix("losses ")), headline))
    return found


@pytest.mark.nightly
def test_workers_resume_after_sigkill(tmp_path):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    with reserved_ports(2) as ports:
        first, second = _started(cluster_of(ports), killed)
        note = killed / "backup-0" / "training_metadata.json"
        while not note.exists() and second.poll() is None:
            time.sleep(0.05)
        second.kill()
        # It cannot go on alone, which it hears from the cluster after a while.
        first.communicate(timeout=300)
        second.communicate()
        assert first.returncode != 0
    with reserved_ports(2) as ports:
        resumed, other = _printed(_started(cluster_of(ports), killed))
    with reserved_ports(2) as ports:
        expected, _ = _printed(_started(cluster_of(ports), straight))
    assert resumed == other
    assert 0 < len(resumed[0]) < len(expected[0]) == 30
    assert resumed[0] == expected[0][-len(resumed[0]) :]
    assert resumed[1] == expected[1]
