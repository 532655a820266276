"""Training under MirroredStrategy, in a process with two logical CPUs."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.fresh_process import run_fresh

MIRRORED = """
import json, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, keras_advdef as advdef
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
x = generator.uniform(0, 1, (50, 8, 8, 1)).astype("float32")
y = generator.integers(0, 3, 50)
x[np.arange(50), y] = 1.0
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    net = keras.Sequential([
        keras.Input((8, 8, 1)), advdef.layers.RandomNoise(0.05, seed=3),
        advdef.layers.RandomResizePad(10, 8), keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(), keras.layers.ReLU(),
        keras.layers.Flatten(), keras.layers.Dense(3)])
    attack = advdef.attacks.PGD(0.05, steps=3)
    model = advdef.training.AdversarialTrainingModel(
        net, attack, validation_attack=attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
history = model.fit(
    data, epochs=6, validation_data=data, verbose=0, shuffle=False).history
noise = net.layers[0]
draws = strategy.run(lambda: noise(tf.zeros((1, 4))))
local = [each.numpy().tolist() for each in strategy.experimental_local_results(draws)]
state = [int(v) for v in noise.random_state.numpy()]
refused = []
for name, value in (("jit_compile", True), ("steps_per_execution", 2)):
    with strategy.scope():
        other = advdef.training.AdversarialTrainingModel(net, attack)
        other.compile("sgd", loss, **{name: value})
    try:
        other.fit(data, verbose=0, shuffle=False)
    except ValueError as error:
        refused.append(str(error))
first = []
for is_built in (True, False):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        late = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        if is_built:
            late(x[:1])
        late = advdef.training.AdversarialTrainingModel(late, attack, seed=1)
        late.compile("sgd", loss)
    first.append(late.fit(x, y, shuffle=False, verbose=0).history["loss"][0])
print(json.dumps({"history": history, "draws": local, "state": state,
                  "refused": refused, "first": first}))
"""


@pytest.mark.slow
def test_adversarial_training_under_mirrored_strategy():
    found = run_fresh(MIRRORED)
    losses = found["history"]["loss"]
    assert losses[-1] < losses[0]
    assert 0 <= found["history"]["val_adversarial_accuracy"][-1] <= 1
    one, other = found["draws"]
    assert one != other
    # One advance per step, whatever the number of replicas: 4 batches in 6 epochs of
    # training and 6 of validation, and the draw above. Attacks leave it alone.
    assert found["state"] == [49 * 256, 0, 3]
    assert "`jit_compile`" in found["refused"][0]
    assert "`steps_per_execution`" in found["refused"][1]
    built, unbuilt = found["first"]
    assert unbuilt == pytest.approx(built, rel=1e-5)


DIVERGED = """
import json
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, keras_advdef as advdef
x = np.random.default_rng(0).uniform(0, 1, (48, 8, 8, 1)).astype("float32")
y = np.arange(48) % 3
bad = x.copy()
# In the third batch, and of its two halves in the second.
bad[44, 3, 3] = np.nan
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
def trained(optimizer, images, dtype="float32"):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        net = keras.Sequential([
            keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, dtype=dtype),
            keras.layers.BatchNormalization(), keras.layers.ReLU(),
            keras.layers.Flatten(), keras.layers.Dense(3)])
        model = advdef.training.AdversarialTrainingModel(
            net, advdef.attacks.FGSM(0.05), seed=0, dtype=dtype)
        model.compile(optimizer, loss)
    data = tf.data.Dataset.from_tensor_slices((images, y[:len(images)])).batch(16)
    said = ""
    try:
        model.fit(data, verbose=0, shuffle=False)
    except ValueError as error:
        said = str(error)
    variables = [*model.variables, *model.optimizer.variables]
    return said, [part.numpy() for each in variables
                  for part in strategy.experimental_local_results(each.value)]
found = []
for dtype in ("float32", "mixed_float16"):
    said, kept = trained("adam", bad, dtype)
    _, expected = trained("adam", x[:32], dtype)
    same = all(np.array_equal(a, b) for a, b in zip(kept, expected, strict=True))
    found.append([said, same, len(kept)])
said, kept = trained(keras.optimizers.SGD(1e38), x)
found.append([said, all(np.isfinite(each).all() for each in kept), len(kept)])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_step_of_one_replica_is_undone_on_all():
    single, half, steep = run_fresh(DIVERGED)
    for said, is_same, count in (single, half):
        assert "`images` to be finite, which failed in batch 3 of epoch 1" in said
        assert is_same
        assert count > 20
    assert "to be finite, which failed in batch" in steep[0]
    assert steep[1]


TRANSFORMS = """
import json
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, keras_advdef as advdef
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).uniform(0, 1, (40, 16, 16, 3)).astype("float32")
y = (x.mean((1, 2, 3)) > np.median(x.mean((1, 2, 3)))).astype("int64")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layers = advdef.layers
    quilting = layers.ImageQuilting(neighbors=3, seed=1)
    quilting.adapt(x)
    net = keras.Sequential([
        keras.Input((16, 16, 3)), quilting, layers.JPEGCompression((60, 90), seed=2),
        layers.MedianSmoothing(2), layers.NonLocalMeans(search=3),
        layers.TotalVariationMinimization(steps=5, seed=3),
        keras.layers.Flatten(), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile("adam", loss)
history = net.fit(x, y, batch_size=16, epochs=3, verbose=0).history
names = ("image_quilting", "jpeg", "total_variation")
states = [int(layer.random_state.numpy()[0]) // 256 for layer in net.layers
          if layer.name.startswith(names)]
images = tf.constant(np.full((1, 16, 16, 3), 0.5, "float32") + x[:1] / 4)
draws = strategy.run(lambda: net.layers[4](images))
local = [each.numpy().tolist() for each in strategy.experimental_local_results(draws)]
print(json.dumps({"loss": history["loss"], "states": states, "draws": local}))
"""


@pytest.mark.slow
def test_transforms_with_kernels_of_their_own_under_mirrored_strategy():
    found = run_fresh(TRANSFORMS)
    assert all(loss > 0 for loss in found["loss"])
    # Three batches in three epochs, whatever the number of replicas.
    assert found["states"] == [9, 9, 9]
    one, other = found["draws"]
    assert one != other


PENALTY_AND_GAN = """
import json
import numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, keras_advdef as advdef
layers = keras.layers
x = np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 1)).astype("float32")
y = np.arange(16) % 3
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
def trained(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        net = keras.Sequential([
            keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(), layers.Dense(3)])
        model = advdef.training.AdversarialTrainingModel(
            net, penalties=[advdef.objectives.CrossLipschitz(weight=0.1)])
        model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    return net.get_weights()
one = trained(tf.distribute.get_strategy())
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
two = trained(strategy)
with strategy.scope():
    generator = keras.Sequential([
        keras.Input((4,)), layers.Dense(64, activation="sigmoid"),
        layers.Reshape((8, 8, 1))])
    critic = keras.Sequential([
        keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(1)])
    gan = advdef.training.WassersteinGAN(
        generator, critic, latent_dim=4, critic_steps=2)
    gan.compile(keras.optimizers.SGD(0.01))
before = [*generator.get_weights(), *critic.get_weights()]
history = gan.fit(x, batch_size=8, verbose=0).history
after = [*generator.get_weights(), *critic.get_weights()]
print(json.dumps({
    "apart": max(float(abs(a - b).max()) for a, b in zip(one, two)),
    "logs": [float(value) for values in history.values() for value in values],
    "moved": [float(abs(a - b).max()) for a, b in zip(before, after)]}))
"""


@pytest.mark.slow
def test_penalties_and_generators_under_mirrored_strategy():
    found = run_fresh(PENALTY_AND_GAN)
    assert found["apart"] < 1e-6
    assert np.isfinite(found["logs"]).all()
    # The critic's last bias has no gradient: it shifts all scores equally.
    assert min(found["moved"][:-1]) > 0


ENSEMBLE = """
import json
import numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, keras_advdef as advdef
x = np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 1)).astype("float32")
y = np.arange(16) % 3
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    net = keras.Sequential([
        keras.Input((8, 8, 1)), advdef.layers.RandomNoise(0.3),
        keras.layers.Flatten(), keras.layers.Dense(3)])
    model = advdef.models.RandomSelfEnsemble(net, samples=3)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
loss = model.evaluate(x, y, verbose=0)
same = np.repeat(x[:1], 16, axis=0)
first, second = np.split(model.predict(same, batch_size=16, verbose=0), 2)
history = model.fit(x, y, validation_data=(x, y), verbose=0).history
print(json.dumps({"loss": loss, "draws": [first.tolist(), second.tolist()],
                  "val_loss": history["val_loss"]}))
"""


@pytest.mark.slow
def test_random_self_ensemble_under_mirrored_strategy():
    found = run_fresh(ENSEMBLE)
    assert 0 < found["loss"] < 10
    assert 0 < found["val_loss"][0] < 10
    one, other = found["draws"]
    assert one != other


WORKER = """
import json
import numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, keras_advdef as advdef
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
x = generator.uniform(0, 1, (64, 8, 8, 1)).astype("float32")
y = generator.integers(0, 3, 64)
x[np.arange(64), y] = 1.0
with strategy.scope():
    net = keras.Sequential([
        keras.Input((8, 8, 1)), advdef.layers.RandomNoise(0.05, seed=3),
        keras.layers.Flatten(), keras.layers.Dense(3)])
    attack = advdef.attacks.PGD(0.05, steps=2)
    model = advdef.training.AdversarialTrainingModel(
        net, attack, validation_attack=attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
options = tf.data.Options()
policy = tf.data.experimental.AutoShardPolicy.DATA
options.experimental_distribute.auto_shard_policy = policy
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16, drop_remainder=True)
data = data.with_options(options)
history = model.fit(data, epochs=4, validation_data=data, verbose=0, shuffle=False)
weights = [float(w.sum()) for w in net.get_weights()]
print(json.dumps({"history": history.history, "weights": weights}))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_adversarial_training_on_two_workers():
    workers = [f"127.0.0.1:{_free_port()}" for _ in range(2)]

    def run(index):
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": workers}, "task": task}
        return run_fresh(WORKER, TF_CONFIG=json.dumps(cluster))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    losses = first["history"]["loss"]
    assert losses[-1] < losses[0]
    assert "val_adversarial_accuracy" in first["history"]
