import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.cards import cards_in
from keras_advdef.core.gradients import bypass_defences
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.core.random_state import draw_scope, shared_pass_key
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.layers import RandomNoise
from keras_advdef.models import RandomSelfEnsemble
from keras_advdef.training import AdversarialTrainingModel


@pytest.fixture
def noisy(net):
    # Steep, so that noise moves the softmax.
    net.layers[-1].kernel.assign(10.0 * net.layers[-1].kernel)
    noise = RandomNoise(0.2, seed=3)
    return keras.Sequential([keras.Input((8, 8, 1)), noise, net])


def spread(model, images, runs=200):
    """Mean variance of a probability over calls."""
    run = tf.function(model)
    return np.var([run(images).numpy() for _ in range(runs)], axis=0).mean()


def replayed(noisy, images, count):
    """Returns the logits of the passes that the last call of an ensemble took."""
    state = noisy.layers[0].random_state
    state.assign(state - np.array([256, 0, 0]))
    key = shared_pass_key(noisy)
    found = []
    for index in range(count):
        with draw_scope(fold_in(key, index)):
            found.append(noisy(images))
    return found


class TestRandomSelfEnsemble:
    def test_probabilities_of_the_passes_are_averaged(self, noisy, images):
        before = np.array(noisy.layers[0].random_state)
        found = RandomSelfEnsemble(noisy, samples=4)(images)
        passes = [tf.nn.softmax(each).numpy() for each in replayed(noisy, images, 4)]
        # One key was taken for all passes.
        assert np.array(noisy.layers[0].random_state)[0] == before[0] + 256
        assert np.ptp(passes, axis=0).max() > 0.01
        np.testing.assert_allclose(found, np.mean(passes, axis=0), atol=1e-5)

    def test_logits_of_the_passes_are_added(self, noisy, images):
        model = RandomSelfEnsemble(noisy, samples=3, combine="logits")
        found = model.logits(images)
        total = sum(each.numpy() for each in replayed(noisy, images, 3))
        np.testing.assert_allclose(found, total, rtol=1e-4, atol=1e-4)
        assert model(images).numpy().sum(axis=1) == pytest.approx(1.0)

    def test_variance_falls_with_the_number_of_passes(self, noisy, images):
        one = spread(RandomSelfEnsemble(noisy, samples=1), images)
        many = spread(RandomSelfEnsemble(noisy, samples=16), images)
        assert one / many == pytest.approx(16.0, rel=0.25)

    def test_sums_to_one(self, noisy, images):
        found = RandomSelfEnsemble(noisy).predict(images, verbose=0)
        np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)

    def test_every_call_draws_anew(self, noisy, images):
        model = RandomSelfEnsemble(noisy, samples=2)
        run = tf.function(model)
        assert not np.array_equal(run(images), run(images))

    def test_passes_of_a_scope_differ_and_repeat(self, noisy, images):
        model = RandomSelfEnsemble(noisy, samples=3)
        state = np.array(noisy.layers[0].random_state)
        found = []
        for seed in (1, 1, 2):
            with draw_scope(make_key(seed)):
                found.append(model(images).numpy())
        np.testing.assert_array_equal(noisy.layers[0].random_state, state)
        np.testing.assert_array_equal(found[0], found[1])
        assert not np.array_equal(found[0], found[2])
        with draw_scope(make_key(1)):
            single = RandomSelfEnsemble(noisy, samples=1)(images)
        assert not np.allclose(single, found[0], atol=1e-4)

    def test_gradient_is_the_mean_over_draws(self, noisy, images):
        model = RandomSelfEnsemble(noisy, samples=64, combine="logits")
        images = tf.constant(images)

        def slope(function):
            with tf.GradientTape() as tape:
                tape.watch(images)
                total = tf.reduce_sum(function(images)[:, 0])
            return tape.gradient(total, images).numpy()

        logits_fn = LogitsFunction(model)
        with draw_scope(make_key(0)):
            mean = slope(logits_fn) / 64
        singles = [slope(noisy) for _ in range(64)]
        alone = np.abs(singles[0] - np.mean(singles, axis=0)).mean()
        assert np.abs(mean - np.mean(singles, axis=0)).mean() < 0.5 * alone

    def test_attack_changes_no_variable(self, noisy, images, labels):
        model = RandomSelfEnsemble(noisy, samples=3)
        before = [np.array(v) for v in model.variables]
        attack = PGD(0.1, steps=2)
        first, second = (
            attack.generate(model, images, labels, seed=1, verbose=0) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)
        for old, new in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_training_takes_one_pass(self, noisy, images, labels):
        model = RandomSelfEnsemble(noisy, samples=5)
        state = int(noisy.layers[0].random_state.numpy()[0])
        model(images, training=True)
        assert int(noisy.layers[0].random_state.numpy()[0]) == state + 256
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(images, labels, verbose=0, validation_split=0.5).history
        assert np.isfinite(history["val_loss"]).all()

    def test_losses_of_layers_do_not_leave_the_loop(self, images, labels):
        layers = [keras.layers.Flatten(), RandomNoise(0.1)]
        head = keras.layers.Dense(3, activity_regularizer="l2")
        net = keras.Sequential([keras.Input((8, 8, 1)), *layers, head])
        model = RandomSelfEnsemble(net, samples=4)
        model.compile("sgd", "sparse_categorical_crossentropy")
        assert np.isfinite(model.evaluate(images, labels, verbose=0))
        assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()

    def test_unaware_attacker_sees_one_quiet_pass(self, noisy, net, images):
        model = RandomSelfEnsemble(noisy)
        with bypass_defences():
            found = model(images)
        np.testing.assert_allclose(found, tf.nn.softmax(net(images)), atol=1e-5)

    def test_evaluation_averages_fewer_calls(self, noisy, images, labels):
        def draws(model):
            subject = EvaluatedModel.of(model)
            options = {"value_range": ValueRange(), "seed": 0}
            return probe(subject, images, labels, **options).draws

        assert draws(noisy) == 20
        assert draws(RandomSelfEnsemble(noisy, samples=10)) == 2
        assert draws(RandomSelfEnsemble(noisy, samples=50)) == 1

    def test_keras_file(self, noisy, images, tmp_path):
        model = RandomSelfEnsemble(noisy, samples=3, combine="logits")
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert (loaded.samples, loaded.combine) == (3, "logits")
        np.testing.assert_allclose(loaded(images), model(images), atol=1e-5)

    @pytest.mark.slow
    def test_saved_model(self, noisy, images, tmp_path):
        model = RandomSelfEnsemble(noisy, samples=3)
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        first, second = (served.serve(images).numpy() for _ in range(2))
        assert not np.array_equal(first, second)
        np.testing.assert_allclose(first.sum(axis=1), 1.0, atol=1e-5)
        assert "RandomSelfEnsemble" in cards_in(tmp_path / "served")

    def test_xla(self, noisy, images):
        model = RandomSelfEnsemble(noisy, samples=3)
        found = tf.function(model, jit_compile=True)(tf.constant(images))
        np.testing.assert_allclose(found.numpy().sum(axis=1), 1.0, atol=1e-5)

    @pytest.mark.parametrize("samples", [0, 1.5, True])
    def test_bad_samples(self, samples, noisy):
        with pytest.raises(ValueError, match="`samples` to be an integer of at least"):
            RandomSelfEnsemble(noisy, samples=samples)

    def test_bad_combination(self, noisy):
        with pytest.raises(ValueError, match="`combine` to be one of"):
            RandomSelfEnsemble(noisy, combine="votes")

    def test_bad_classifier(self):
        with pytest.raises(TypeError, match="`classifier` to be a `Model`"):
            RandomSelfEnsemble(keras.layers.Dense(3))


def test_of_a_training_model_draws_in_each_pass(noisy, images):
    training = AdversarialTrainingModel(noisy)
    many, one = (RandomSelfEnsemble(training, samples=count) for count in (4, 1))
    assert not np.allclose(many(images), one(images), atol=1e-4)
    assert not np.array_equal(many(images), many(images))


def test_graph_does_not_grow_with_the_passes(noisy, images):
    def size(samples):
        run = tf.function(RandomSelfEnsemble(noisy, samples=samples))
        graph = run.get_concrete_function(tf.TensorSpec(images.shape)).graph
        library = graph.as_graph_def().library.function
        return len(graph.get_operations()) + sum(len(f.node_def) for f in library)

    assert size(3) == size(30)
