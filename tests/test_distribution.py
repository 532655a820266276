"""Training under distribution strategies.

All that runs under `MirroredStrategy` shares one process with two logical CPUs.
"""

import json

import numpy as np
import pytest

from tests.support.fresh_process import run_fresh
from tests.support.workers import run_workers

TWO_CPUS = """
import json, sys, traceback
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, keras_advdef as advdef
layers = keras.layers
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
# At the end of each call TensorFlow looks once a second whether its threads have ended.
wait_for_stop = tf.train.Coordinator.wait_for_stop
tf.train.Coordinator.wait_for_stop = lambda self, _=None: wait_for_stop(self, 0.01)
def each_replica(value):
    return [each.numpy() for each in strategy.experimental_local_results(value)]
"""

# Each of these leaves what it found in `found`.
MIRRORED = """
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
x = generator.uniform(0, 1, (50, 8, 8, 1)).astype("float32")
y = generator.integers(0, 3, 50)
x[np.arange(50), y] = 1.0
with strategy.scope():
    net = keras.Sequential([
        keras.Input((8, 8, 1)), advdef.layers.RandomNoise(0.05, seed=3),
        advdef.layers.RandomResizePad(10, 8), layers.Conv2D(4, 3),
        layers.BatchNormalization(), layers.ReLU(), layers.Flatten(),
        layers.Dense(3)])
    attack = advdef.attacks.PGD(0.05, steps=2)
    model = advdef.training.AdversarialTrainingModel(
        net, attack, validation_attack=attack)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
history = model.fit(
    x, y, batch_size=16, epochs=2, validation_data=data, validation_freq=2, verbose=0,
    shuffle=False).history
noise = net.layers[0]
draws = each_replica(strategy.run(lambda: noise(tf.zeros((1, 4)))))
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
        late = keras.Sequential([layers.Flatten(), layers.Dense(3)])
        if is_built:
            late(x[:1])
        late = advdef.training.AdversarialTrainingModel(
            late, advdef.attacks.FGSM(0.05), seed=1)
        late.compile("sgd", loss)
    first.append(late.fit(x[:32], y[:32], shuffle=False, verbose=0).history["loss"][0])
found = {"history": history, "draws": [each.tolist() for each in draws],
         "state": state, "refused": refused, "first": first}
"""

DIVERGED = """
x = np.random.default_rng(0).uniform(0, 1, (48, 8, 8, 1)).astype("float32")
y = np.arange(48) % 3
bad = x.copy()
# In the third batch, and of its two halves in the second.
bad[44, 3, 3] = np.nan
class Trained:
    \"""A model that starts each training from the same state, and is traced once.\"""
    def __init__(self, optimizer, dtype):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            net = keras.Sequential([
                keras.Input((8, 8, 1)), layers.Conv2D(4, 3, dtype=dtype),
                layers.BatchNormalization(), layers.ReLU(), layers.Flatten(),
                layers.Dense(3)])
            self.model = advdef.training.AdversarialTrainingModel(
                net, advdef.attacks.FGSM(0.05), seed=0, dtype=dtype)
            self.model.compile(optimizer, loss)
            self.model.optimizer.build(self.model.trainable_variables)
        self.start = self.state()
    def parts(self):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return [part for each in variables
                for part in strategy.experimental_local_results(each.value)]
    def state(self):
        return [part.numpy() for part in self.parts()]
    def fit(self, images):
        for part, value in zip(self.parts(), self.start, strict=True):
            part.assign(value)
        data = tf.data.Dataset.from_tensor_slices((images, y[:len(images)]))
        try:
            self.model.fit(data.batch(16), verbose=0, shuffle=False)
        except ValueError as error:
            return str(error), self.state()
        return "", self.state()
def undone(dtype):
    trained = Trained("adam", dtype)
    said, kept = trained.fit(bad)
    _, expected = trained.fit(x[:32])
    same = all(np.array_equal(a, b) for a, b in zip(kept, expected, strict=True))
    moved = any(np.any(a != b) for a, b in zip(kept, trained.start, strict=True))
    return [said, same and moved, len(kept)]
"""

STEEP = """
found = [undone("float32")]
steep = Trained(keras.optimizers.SGD(1e38), "float32")
said, kept = steep.fit(x)
found.append([said, all(np.isfinite(each).all() for each in kept), len(kept)])
"""

HALF = """
found = undone("mixed_float16")
"""

TRANSFORMS = """
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).uniform(0, 1, (48, 16, 16, 3)).astype("float32")
y = (x.mean((1, 2, 3)) > np.median(x.mean((1, 2, 3)))).astype("int64")
with strategy.scope():
    ours = advdef.layers
    quilting = ours.ImageQuilting(neighbors=3, seed=1)
    quilting.adapt(x)
    net = keras.Sequential([
        keras.Input((16, 16, 3)), quilting, ours.JPEGCompression((60, 90), seed=2),
        ours.MedianSmoothing(2), ours.NonLocalMeans(search=3),
        ours.TotalVariationMinimization(steps=2, seed=3),
        layers.Flatten(), layers.Dense(2)])
    net.compile("adam", loss)
history = net.fit(x, y, batch_size=16, epochs=2, verbose=0).history
names = ("image_quilting", "jpeg", "total_variation")
states = [int(layer.random_state.numpy()[0]) // 256 for layer in net.layers
          if layer.name.startswith(names)]
images = tf.constant(np.full((1, 16, 16, 3), 0.5, "float32") + x[:1] / 4)
draws = each_replica(strategy.run(lambda: net.layers[4](images)))
found = {"loss": history["loss"], "states": states,
         "draws": [each.tolist() for each in draws]}
"""

PENALTY_AND_GAN = """
x = np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 1)).astype("float32")
y = np.arange(16) % 3
def trained(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        net = keras.Sequential([
            keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(), layers.Dense(3)])
        model = advdef.training.AdversarialTrainingModel(
            net, penalties=[advdef.objectives.CrossLipschitz(weight=0.1)],
            weight_perturbation=0.1)
        model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    return net.get_weights()
one, two = trained(tf.distribute.get_strategy()), trained(strategy)
def freed(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        net = keras.Sequential([
            keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(), layers.Dense(3)])
        model = advdef.training.FreeAdversarialTrainingModel(
            net, epsilon=0.1, replays=2)
        model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    rows = strategy.experimental_local_results(model.perturbation.rows.value)
    return net.get_weights() + [np.concatenate([each.numpy() for each in rows])]
one += freed(tf.distribute.get_strategy())
two += freed(strategy)
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
found = {
    "apart": max(float(abs(a - b).max()) for a, b in zip(one, two)),
    "logs": [float(value) for values in history.values() for value in values],
    "moved": [float(abs(a - b).max()) for a, b in zip(before, after)]}
"""

ENSEMBLE = """
x = np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 1)).astype("float32")
y = np.arange(16) % 3
with strategy.scope():
    net = keras.Sequential([
        keras.Input((8, 8, 1)), advdef.layers.RandomNoise(0.3),
        layers.Flatten(), layers.Dense(3)])
    model = advdef.models.RandomSelfEnsemble(net, samples=3)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
mean = model.evaluate(x, y, verbose=0)
same = np.repeat(x[:1], 16, axis=0)
first, second = np.split(model.predict(same, batch_size=16, verbose=0), 2)
history = model.fit(x, y, validation_data=(x, y), verbose=0).history
found = {"loss": mean, "draws": [first.tolist(), second.tolist()],
         "val_loss": history["val_loss"]}
"""

VARIATIONAL = """
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).uniform(0, 1, (32, 6)).astype("float32")
y = (x[:, 0] > 0.5).astype("int64")
with strategy.scope():
    dense = advdef.layers.VariationalDense
    net = keras.Sequential([
        keras.Input((6,)), dense(8, "relu", kl_weight=0.01, seed=3),
        dense(2, kl_weight=0.01, estimator="flipout")])
    net.compile(keras.optimizers.Adam(0.05), loss)
    quiet = keras.Sequential([net, layers.Rescaling(0.0)])
    quiet.compile(keras.optimizers.SGD(0.0), loss)
divergence = sum(float(each) for each in net.losses)
first = quiet.fit(x, y, batch_size=16, verbose=0).history["loss"][0]
history = net.fit(x, y, batch_size=16, epochs=6, verbose=0).history["loss"]
draws = each_replica(strategy.run(lambda: net.layers[0](tf.ones((1, 6)))))
found = {"loss": history, "draws": [each.tolist() for each in draws],
         "first": first, "divergence": divergence}
"""

HARDEN = """
from unittest import mock
from keras_advdef.recipes._harden import run
from tests.recipes.conftest import small_net, striped
def hardened(strategy):
    with strategy.scope():
        net = small_net(dropout=False)
    with mock.patch.object(run, "evaluate_robustness", lambda *a, **k: None):
        with mock.patch.object(run.Hardening, "_example", lambda self: None):
            return advdef.harden(
                net, striped(96), striped(24, seed=1), epsilon=0.1, epochs=3,
                batch_size=16, precision="float32", verbose=0)
one, two = hardened(tf.distribute.get_strategy()), hardened(strategy)
found = {"one": one.history, "two": two.history}
"""

ATTACKS = """
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
x = generator.uniform(0, 1, (25, 6, 6, 1)).astype("float32")
y = generator.integers(0, 3, 25)
x[np.arange(25), y] = 1.0
def net(noise):
    return keras.Sequential([
        keras.Input((6, 6, 1)), *[advdef.layers.RandomNoise(0.05, seed=3)] * noise,
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)])
with strategy.scope():
    model, noisy = net(0), net(1)
# As after training, in which each replica keeps averages of its own.
averages = [each.layers[-3].moving_mean.value for each in (model, noisy)]
for each in averages:
    for place, copy in enumerate(strategy.experimental_local_results(each)):
        copy.assign([0.2 * place])
before = [each_replica(each) for each in averages]
attacks, given = advdef.attacks, {"batch_size": 4, "verbose": 0}
same = {}
for attack in (attacks.PGD(0.1, steps=3, restarts=2), attacks.DeepFool(steps=2)):
    one = attack.generate(noisy, x, y, seed=1, **given)
    with strategy.scope():
        same[str(attack)] = np.array_equal(
            one, attack.generate(noisy, x, y, seed=1, **given))
chosen = [attacks.APGD(0.1, steps=3), attacks.Square(0.1, queries=5)]
def report():
    return advdef.evaluation.evaluate_robustness(
        model, x, y, epsilon=0.1, attacks=chosen, curve=[0.05], budget="quick", **given)
one = report()
with strategy.scope():
    two = report()
for key in one.data:
    same[key] = key == "run" or one.data[key] == two.data[key]
same["images"] = one.images == two.images
same["state"] = all(
    np.array_equal(each_replica(each), old) for each, old in zip(averages, before))
refused = []
def refuse(scope, other):
    try:
        with scope:
            attacks.FGSM(0.1).generate(other, x, y, **given)
    except ValueError as error:
        refused.append(str(error))
refuse(strategy.scope(), net(0))
refuse(tf.distribute.experimental.CentralStorageStrategy().scope(), net(0))
with strategy.scope():
    nan = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    nan(x)
    nan.layers[1].bias.assign([0.0, 0.0, np.nan])
refuse(strategy.scope(), nan)
found = {"same": same, "refused": refused}
"""

PARTS = {
    "mirrored": MIRRORED,
    "diverged": DIVERGED + STEEP,
    "penalty_and_gan": PENALTY_AND_GAN,
    "ensemble": ENSEMBLE,
    "attacks": ATTACKS,
}
# More layers that draw, as `mirrored` and `ensemble` hold some, and another precision.
NIGHTLY_PARTS = {
    "transforms": TRANSFORMS,
    "variational": VARIATIONAL,
    "harden": HARDEN,
    "diverged_half": DIVERGED + HALF,
    "mirrored_data": MIRRORED.replace("x, y, batch_size=16,", "data,"),
}

RUN_PARTS = """
shared, results = dict(globals()), {}
for name, part in json.loads(sys.argv[1]).items():
    space = dict(shared)
    try:
        exec(compile(part, name, "exec"), space)
        results[name] = {"found": space["found"]}
    except Exception:
        results[name] = {"error": traceback.format_exc()}
print(json.dumps(results))
"""


def run_parts(parts=PARTS):
    """Returns what each part found, or its error."""
    return run_fresh(TWO_CPUS + RUN_PARTS, json.dumps(parts), timeout=900)


@pytest.fixture(scope="module")
def mirrored(started_early):
    """Gives what each of the gate's parts found."""
    return _found_by(started_early.result() if started_early else run_parts())


@pytest.fixture(scope="module")
def mirrored_at_night():
    """The same with the other parts."""
    return _found_by(run_parts(NIGHTLY_PARTS))


def _found_by(results):
    def found(part):
        assert "error" not in results[part], results[part]["error"]
        return results[part]["found"]

    return found


@pytest.mark.slow
def test_adversarial_training_under_mirrored_strategy(mirrored):
    _assert_trained(mirrored("mirrored"))


@pytest.mark.nightly
def test_adversarial_training_from_a_data_set(mirrored_at_night):
    _assert_trained(mirrored_at_night("mirrored_data"))


def _assert_trained(found):
    losses = found["history"]["loss"]
    assert losses[-1] < losses[0]
    assert 0 <= found["history"]["val_adversarial_accuracy"][-1] <= 1
    one, other = found["draws"]
    assert one != other
    # One advance per step, whatever the number of replicas: 4 batches in 2 epochs of
    # training and one of validation, and the draw above. Attacks leave it alone.
    assert found["state"] == [13 * 256, 0, 3]
    assert "`jit_compile`" in found["refused"][0]
    assert "`steps_per_execution`" in found["refused"][1]
    built, unbuilt = found["first"]
    assert unbuilt == pytest.approx(built, rel=1e-5)


@pytest.mark.slow
def test_a_step_of_one_replica_is_undone_on_all(mirrored):
    undone, steep = mirrored("diverged")
    _assert_undone(*undone)
    assert "to be finite, which failed in batch" in steep[0]
    assert steep[1]


@pytest.mark.nightly
def test_a_step_in_half_precision_is_undone_on_all(mirrored_at_night):
    _assert_undone(*mirrored_at_night("diverged_half"))


def _assert_undone(said, is_same, count):
    assert "`images` to be finite, which failed in batch 3 of epoch 1" in said
    assert is_same
    assert count > 20


@pytest.mark.nightly
def test_transforms_with_kernels_of_their_own_under_mirrored_strategy(
    mirrored_at_night,
):
    found = mirrored_at_night("transforms")
    assert found["loss"][-1] < found["loss"][0]
    # Three batches in two epochs, whatever the number of replicas.
    assert found["states"] == [6, 6, 6]
    one, other = found["draws"]
    assert one != other


@pytest.mark.slow
def test_penalties_and_generators_under_mirrored_strategy(mirrored):
    found = mirrored("penalty_and_gan")
    assert found["apart"] < 1e-6
    assert np.isfinite(found["logs"]).all()
    # The critic's last bias has no gradient: it shifts all scores equally.
    assert min(found["moved"][:-1]) > 0


@pytest.mark.slow
def test_random_self_ensemble_under_mirrored_strategy(mirrored):
    found = mirrored("ensemble")
    assert 0 < found["loss"] < 10
    assert 0 < found["val_loss"][0] < 10
    one, other = found["draws"]
    assert one != other


@pytest.mark.slow
def test_attacks_and_evaluation_under_mirrored_strategy(mirrored):
    found = mirrored("attacks")
    assert [name for name, is_same in found["same"].items() if not is_same] == []
    outside, kind, unfinite = found["refused"]
    assert "`model` to be a model built in the scope of the strategy" in outside
    assert "`strategy` to be MirroredStrategy or MultiWorkerMirroredStrategy" in kind
    assert "`model` to be a model with finite logits" in unfinite


@pytest.mark.nightly
def test_variational_layers_under_mirrored_strategy(mirrored_at_night):
    found = mirrored_at_night("variational")
    assert found["loss"][-1] < found["loss"][0]
    one, other = found["draws"]
    assert one != other
    # Once per step, not per replica.
    wanted = np.log(2) + found["divergence"]
    assert found["first"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.nightly
def test_harden_under_mirrored_strategy(mirrored_at_night):
    found = mirrored_at_night("harden")
    one, two = found["one"], found["two"]
    assert one.keys() == two.keys()
    assert two["loss"][-1] < 0.5 * two["loss"][0]
    # Replicas normalize by their own halves of a batch, and draw noise of their own.
    assert two["val_accuracy"][-1] == pytest.approx(one["val_accuracy"][-1], abs=0.1)


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
history = model.fit(data, epochs=2, validation_data=data, verbose=0, shuffle=False)
weights = [float(w.sum()) for w in net.get_weights()]
print(json.dumps({"history": history.history, "weights": weights}))
"""


@pytest.mark.nightly
def test_adversarial_training_on_two_workers():
    first, second = run_workers(WORKER)
    assert first == second
    losses = first["history"]["loss"]
    assert losses[-1] < losses[0]
    assert "val_adversarial_accuracy" in first["history"]
