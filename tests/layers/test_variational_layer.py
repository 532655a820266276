import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.callbacks import KLAnnealing
from keras_advdef.core.gradients import bypass_defences
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import (
    VariationalConv2D,
    VariationalDense,
    VariationalLayer,
)
from keras_advdef.layers._distributions import distributions
from keras_advdef.layers._weight_estimators import ESTIMATORS
from keras_advdef.models import RandomSelfEnsemble
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss


def bayesian_net(**arguments):
    """Conv net on 8x8x1 images with three classes and two variational layers."""
    arguments = {"kl_weight": 0.01, **arguments}
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            VariationalConv2D(4, 3, activation="relu", **arguments),
            keras.layers.Flatten(),
            VariationalDense(3, **arguments),
        ]
    )


def built(units=3, **arguments):
    layer = VariationalDense(units, **arguments)
    layer.build((None, 4))
    return layer


def normal_divergence(mean, stddev, prior):
    """The closed form, weight by weight."""
    ratio = (stddev**2 + mean**2) / (2 * prior**2)
    return np.sum(np.log(prior / stddev) + ratio - 0.5)


class Quiet(keras.layers.Layer):
    """Removes everything that the loss depends on, except the divergence."""

    def call(self, inputs):
        return 0.0 * inputs


class TestDivergence:
    def test_no_divergence_at_the_prior(self):
        zeros = {"kernel_initializer": "zeros", "posterior_initializer": 0.1}
        layer = built(prior_stddev=0.1, **zeros)
        assert float(layer.kl_divergence()) == pytest.approx(0.0, abs=1e-6)
        # A value computed independently, for each of the 12 weights.
        layer = built(prior_stddev=0.1, **{**zeros, "posterior_initializer": 0.05})
        assert float(layer.kl_divergence()) == pytest.approx(12 * 0.318147, rel=1e-5)

    @pytest.mark.parametrize("bias", [False, True])
    def test_closed_form(self, bias):
        layer = built(prior_stddev=0.3, variational_bias=bias)
        layer.kernel_rho.assign(keras.random.normal((4, 3), -2.0))
        layer.bias.assign([0.5, -0.2, 1.0])
        stddev = np.log1p(np.exp(layer.kernel_rho.numpy()))
        wanted = normal_divergence(layer.kernel.numpy(), stddev, 0.3)
        if bias:
            wanted += normal_divergence(layer.bias.numpy(), np.full(3, 0.05), 0.3)
        found = float(layer.kl_divergence())
        assert found == pytest.approx(wanted, rel=1e-5)
        prior = distributions().Normal(0.0, 0.3)
        each = [distributions().kl_divergence(p, prior) for p in layer.posteriors()]
        assert found == pytest.approx(sum(np.sum(part) for part in each), rel=1e-5)
        assert len(each) == 1 + bias

    def test_is_the_mean_over_draws_of_the_log_ratio(self):
        layer = built(1, prior_stddev=0.4, posterior_initializer=0.2)
        (posterior,), prior = layer.posteriors(), distributions().Normal(0.0, 0.4)
        drawn = posterior.sample(100_000, seed=1)
        ratio = posterior.log_prob(drawn) - prior.log_prob(drawn)
        mean = np.mean(np.sum(ratio, axis=(1, 2)))
        assert float(layer.kl_divergence()) == pytest.approx(mean, rel=0.01)

    def test_gradients(self):
        layer = built(prior_stddev=0.3, kl_weight=1.0)
        with tf.GradientTape() as tape:
            (loss,) = layer.losses
        mean, rho = tape.gradient(loss, [layer.kernel.value, layer.kernel_rho.value])
        np.testing.assert_allclose(mean, layer.kernel / 0.3**2, rtol=1e-4)
        slope = 1 / (1 + np.exp(-layer.kernel_rho.numpy()))
        wanted = slope * (0.05 / 0.3**2 - 1 / 0.05)
        np.testing.assert_allclose(rho, wanted, rtol=1e-4)

    @pytest.mark.parametrize("prior", [0.02, 1.0, 30.0])
    @pytest.mark.parametrize("start", [1e-6, 0.05, 5.0, 1000.0])
    def test_is_never_negative(self, prior, start):
        layer = built(prior_stddev=prior, posterior_initializer=start)
        assert float(layer.kl_divergence()) >= 0.0
        stddev = np.logaddexp(0.0, layer.kernel_rho.numpy())
        np.testing.assert_allclose(stddev, start, rtol=1e-5)


class TestLosses:
    def test_hold_the_weighted_divergence(self):
        layer = built(kl_weight=0.125)
        (loss,) = layer.losses
        assert float(loss) == pytest.approx(0.125 * float(layer.kl_divergence()))
        layer.kl_scale.assign(0.5)
        layer.kl_weight = 0.25
        (loss,) = layer.losses
        assert float(loss) == pytest.approx(0.125 * float(layer.kl_divergence()))

    def test_hold_it_once_for_each_layer(self, images):
        model = bayesian_net()
        wanted = [0.01 * float(model.layers[i].kl_divergence()) for i in (0, 2)]
        for _ in range(2):
            model(images)
            np.testing.assert_allclose(model.losses, wanted, rtol=1e-5)
        inputs = keras.Input((8, 8, 1))
        twice = keras.layers.Add()([model(inputs), model(inputs[:, ::-1])])
        shared = keras.Model(inputs, twice)
        shared(images)
        np.testing.assert_allclose(shared.losses, wanted, rtol=1e-5)

    def test_hold_none_of_frozen_layers(self):
        model = bayesian_net()
        model.layers[0].trainable = False
        assert len(model.losses) == 1

    @pytest.mark.parametrize("wrap", [lambda model: model, RandomSelfEnsemble])
    def test_enter_the_loss_once(self, wrap, images, labels):
        model = bayesian_net()
        divergence = sum(float(loss) for loss in model.losses)
        model = wrap(keras.Sequential([keras.Input((8, 8, 1)), model, Quiet()]))
        model.compile("sgd", sparse_loss())
        wanted = pytest.approx(np.log(3) + divergence, rel=1e-4)
        if isinstance(model, RandomSelfEnsemble):
            # It returns probabilities.
            model.compile("sgd", "sparse_categorical_crossentropy")
        assert model.evaluate(images, labels, verbose=0) == wanted
        history = model.fit(images, labels, verbose=0, batch_size=6)
        assert history.history["loss"][0] == wanted

    def test_enter_the_loss_of_adversarial_training_once(self, images, labels):
        model = bayesian_net()
        divergence = sum(float(loss) for loss in model.losses)
        model = keras.Sequential([keras.Input((8, 8, 1)), model, Quiet()])
        model = AdversarialTrainingModel(model, PGD(0.1, steps=2))
        model.compile("sgd", sparse_loss())
        history = model.fit(images, labels, verbose=0, batch_size=6).history
        assert history["loss"][0] == pytest.approx(np.log(3) + divergence, rel=1e-4)

    def test_of_a_copy_are_its_own(self):
        layer = built(kl_weight=0.125)
        clone = keras.models.clone_model(keras.Sequential([keras.Input((4,)), layer]))
        layer.kernel.assign(5.0 + layer.kernel)
        (loss,) = clone.losses
        wanted = 0.125 * float(clone.layers[0].kl_divergence())
        assert float(loss) == pytest.approx(wanted)
        assert float(loss) < float(layer.losses[0])

    def test_weigh_nothing_in_validation_without_weight(self, images):
        model = bayesian_net(kl_weight=None)
        model(images, training=False)
        np.testing.assert_array_equal(model.losses, [0.0, 0.0])


class TestWeight:
    def test_must_be_set_before_training(self, images, labels):
        sentence = (
            r"`VariationalConv2D` expects `kl_weight` to be set before training.*"
            r"set_kl_weight\(model, images\)"
        )
        model = bayesian_net(kl_weight=None)
        model.compile("sgd", sparse_loss())
        with pytest.raises(ValueError, match=sentence):
            model.fit(images, labels, verbose=0)
        with pytest.raises(ValueError, match=sentence):
            model(images, training=True)
        for index in (0, 2):
            model.layers[index].kl_weight = 0.0
        model.fit(images, labels, verbose=0)

    def test_moves_inside_a_compiled_fit(self, images, labels):
        model = keras.Sequential([bayesian_net(), Quiet()])
        model.compile(keras.optimizers.SGD(0.0), sparse_loss())
        inner = model.layers[0].layers
        total = sum(float(inner[i].kl_divergence()) for i in (0, 2))

        def loss():
            return model.fit(images, labels, verbose=0).history["loss"][0] - np.log(3)

        assert loss() == pytest.approx(0.01 * total, rel=1e-3)
        for index in (0, 2):
            inner[index].kl_weight = 0.03
        assert loss() == pytest.approx(0.03 * total, rel=1e-3)

    @pytest.mark.parametrize("value", [-0.1, float("nan"), "much"])
    def test_rejects(self, value):
        with pytest.raises(ValueError, match="`kl_weight` to be"):
            built(kl_weight=value)
        with pytest.raises(ValueError, match="`kl_weight` to be"):
            built().kl_weight = value


class TestDraws:
    @pytest.mark.parametrize("training", [True, False, None])
    def test_are_new_at_each_call(self, training, images):
        model = bayesian_net()
        first, second = (model(images, training=training) for _ in range(2))
        assert not np.array_equal(first, second)

    def test_repeat_with_the_seed(self, images):
        def calls(seed):
            keras.utils.set_random_seed(0)
            layer = VariationalConv2D(4, 3, seed=seed)
            return np.array([layer(images) for _ in range(2)])

        np.testing.assert_array_equal(calls(1), calls(1))
        assert not np.array_equal(calls(1), calls(2))

    def test_of_layers_with_one_key_differ(self):
        layers = [built(kernel_initializer="zeros") for _ in range(2)]
        with draw_scope(make_key(1)):
            first, second = (layer(np.ones((1, 4))) for layer in layers)
        assert not np.array_equal(first, second)

    def test_have_the_moments_of_the_posterior(self):
        ones = {"kernel_initializer": "ones", "posterior_initializer": 0.2}
        found = built(10_000, **ones)(np.ones((1, 4)))
        # Four standard errors for sums of four weights with standard deviation 0.4.
        assert np.mean(found) == pytest.approx(4.0, abs=0.016)
        assert np.std(found) == pytest.approx(0.4, rel=0.03)

    @pytest.mark.parametrize("draws", [1, 2])
    def test_are_fresh_at_each_step_of_an_attack(self, draws, images, labels):
        seen = []

        class Spy(VariationalDense):
            def apply_kernel(self, inputs, kernel):
                tf.py_function(lambda k: seen.append(k.numpy()), [kernel], [])
                return super().apply_kernel(inputs, kernel)

        flatten = keras.layers.Flatten()
        net = keras.Sequential([flatten, Spy(3, kl_weight=0.01, seed=1)])
        net.build((None, 8, 8, 1))
        state = np.array(net.layers[1].random_state)
        attack = PGD(0.1, steps=3, eot_samples=draws, return_best=False)
        model = AdversarialTrainingModel(net, attack)
        model.compile("sgd", sparse_loss(), jit_compile=False)
        seen.clear()
        annealing = KLAnnealing(2)
        model.fit(images, labels, batch_size=6, callbacks=[annealing], verbose=0)
        # At least three steps of the attack and one of training.
        assert len(seen) >= 3 * draws + 1
        assert len({kernel.tobytes() for kernel in seen}) == len(seen)
        # Only training advances the saved stream.
        assert int(net.layers[1].random_state[0]) == int(state[0]) + 256

    def test_of_logits_are_those_of_probabilities(self, images):
        head = VariationalDense(3, "softmax", seed=2)
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), head])
        logits_fn, found = LogitsFunction(model), []
        for function in (model, lambda x: tf.nn.softmax(logits_fn(x))):
            with draw_scope(make_key(1)):
                found.append(function(tf.constant(images)))
        np.testing.assert_allclose(*found, atol=1e-6)

    def test_are_hidden_from_an_unaware_attacker(self, images):
        model = bayesian_net()
        quiet = bayesian_net(deterministic=True)
        quiet.set_weights(model.get_weights())
        with bypass_defences():
            found = model(images)
        np.testing.assert_array_equal(found, quiet(images))


class TestDeterministic:
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_is_the_layer_of_keras(self, estimator, images):
        layers = [
            VariationalConv2D(4, 3, estimator=estimator, deterministic=True),
            keras.layers.Conv2D(4, 3),
        ]
        for layer in layers:
            layer.build(images.shape)
        layers[1].kernel.assign(layers[0].kernel)
        found, again = layers[0](images), layers[0](images)
        np.testing.assert_array_equal(found, again)
        np.testing.assert_allclose(found, layers[1](images), atol=1e-6)

    def test_weights_can_be_exchanged(self, images, tmp_path):
        model, other = bayesian_net(seed=1), bayesian_net(deterministic=True)
        model.save_weights(tmp_path / "a.weights.h5")
        other.load_weights(tmp_path / "a.weights.h5")
        for one, two in zip(model.variables, other.variables, strict=True):
            np.testing.assert_array_equal(one, two)
        other.save_weights(tmp_path / "b.weights.h5")
        model.load_weights(tmp_path / "b.weights.h5")
        with bypass_defences():
            np.testing.assert_array_equal(model(images), other(images))
        assert not np.array_equal(model(images), other(images))

    def test_is_fixed(self):
        with pytest.raises(AttributeError):
            built().deterministic = True

    def test_keeps_its_divergence(self):
        assert len(bayesian_net(deterministic=True).losses) == 2


class TestTraining:
    # In the gate the contracts train with XLA.
    compiled = pytest.mark.parametrize(
        "jit", [False, pytest.param(True, marks=pytest.mark.nightly)]
    )

    @compiled
    def test_repeats_with_the_seed(self, jit, images, labels):
        runs = []
        for _ in range(2):
            keras.utils.set_random_seed(3)
            model = bayesian_net(estimator="flipout")
            model.compile("adam", sparse_loss(), jit_compile=jit)
            model.fit(images, labels, epochs=2, batch_size=2, verbose=0)
            runs.append(model.get_weights())
        for one, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(one, other)

    @compiled
    def test_lowers_the_loss(self, jit, digits):
        options = {"kl_weight": 1e-4, "variational_bias": True}
        layers = [
            VariationalDense(8, "relu", estimator=estimator, **options)
            for estimator in ESTIMATORS
        ]
        head = VariationalDense(3, **options)
        model = keras.Sequential([keras.layers.Flatten(), *layers, head])
        model.compile(keras.optimizers.Adam(0.02), sparse_loss(), jit_compile=jit)
        x, y = digits.x_train[:128], digits.y_train[:128]
        losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
        assert losses[-1] < 0.9 * losses[0]
        for layer in (*layers, head):
            for rho in (layer.kernel_rho, layer.bias_rho):
                assert np.ptp(rho) > 0, "all started alike"

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_mixed_precision(self, estimator, images, labels):
        dtype = "mixed_float16"
        options = {"dtype": dtype, "estimator": estimator, "variational_bias": True}
        net = bayesian_net(**options)
        layer = net.layers[0]
        assert layer.kernel.dtype == layer.kernel_rho.dtype == "float32"
        assert layer(images).dtype == "float16"
        with tf.GradientTape() as tape:
            loss = sparse_loss()(labels, tf.cast(net(images, training=True), "float32"))
            loss += tf.add_n(net.losses)
        variables = [variable.value for variable in net.trainable_variables]
        for slope in tape.gradient(loss, variables):
            assert np.isfinite(slope).all()
        net.compile("sgd", sparse_loss())
        assert np.isfinite(net.fit(images, labels, verbose=0).history["loss"][0])

    def test_float64(self):
        layer = built(dtype="float64")
        assert layer(np.ones((1, 4))).dtype == "float64"
        assert layer.kl_divergence().dtype == "float64"

    def test_regularizers_act_on_the_means(self):
        layer = built(kernel_regularizer=keras.regularizers.L2(1.0), kl_weight=0.0)
        found = sorted(map(float, layer.losses))
        wanted = float(np.sum(layer.kernel.numpy() ** 2))
        np.testing.assert_allclose(found, [0.0, wanted], rtol=1e-5)

    def test_deviations_can_be_left_out_of_weight_decay(self):
        layer = built()
        optimizer = keras.optimizers.AdamW(0.5, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(var_names=["rho"])
        rho, kernel = np.array(layer.kernel_rho), np.array(layer.kernel)
        variables = layer.trainable_variables
        optimizer.build(variables)
        optimizer.apply_gradients([(tf.zeros(each.shape), each) for each in variables])
        np.testing.assert_array_equal(layer.kernel_rho, rho)
        np.testing.assert_allclose(layer.kernel, 0.95 * kernel, rtol=1e-5)

    def test_no_low_rank_adaptation(self):
        with pytest.raises(NotImplementedError, match="does not support LoRA"):
            built().enable_lora(2)


class TestSaving:
    def test_keras_file_is_complete(self, images, labels, tmp_path):
        model = bayesian_net(
            estimator="flipout", prior_stddev=0.2, variational_bias=True
        )
        model.compile("adam", sparse_loss())
        model.fit(images, labels, verbose=0)
        model.layers[0].kl_weight = 0.5
        model.layers[0].kl_scale.assign(0.25)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        # The divergence counts fully again; all else is the same, draws included.
        assert float(loaded.layers[0].kl_scale) == 1.0
        assert loaded.layers[0].kl_weight == 0.5
        assert loaded.layers[2].kl_weight == pytest.approx(0.01)
        assert loaded.layers[0].get_config() == model.layers[0].get_config()
        np.testing.assert_array_equal(loaded(images), model(images))
        model.layers[0].kl_scale.assign(1.0)
        np.testing.assert_allclose(loaded.losses, model.losses, rtol=1e-6)
        loaded.fit(images, labels, verbose=0)

    def test_unset_weight_stays_unset(self, tmp_path):
        bayesian_net(kl_weight=None).save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.layers[0].kl_weight is None

    def test_initializers_in_the_configuration(self):
        start = keras.initializers.RandomNormal(-3.0, 0.1, seed=2)
        layer = built(posterior_initializer=start)
        copy = VariationalDense.from_config(layer.get_config())
        copy.build((None, 4))
        np.testing.assert_array_equal(layer.kernel_rho, copy.kernel_rho)
        assert np.ptp(layer.kernel_rho) > 0.01

    @pytest.mark.slow
    def test_saved_model(self, images, tmp_path):
        bayesian_net().export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        first, second = (served.serve(images).numpy() for _ in range(2))
        assert not np.array_equal(first, second)


class TestArguments:
    @pytest.mark.parametrize("name", ["prior_stddev", "posterior_initializer"])
    @pytest.mark.parametrize("value", [0, -0.1, float("inf")])
    def test_rejects_deviations(self, name, value):
        with pytest.raises(ValueError, match=f"`VariationalDense` expects `{name}`"):
            VariationalDense(3, **{name: value})

    def test_rejects_estimators(self):
        with pytest.raises(ValueError, match="expects `estimator` to be one of"):
            VariationalDense(3, estimator="guess")

    @pytest.mark.parametrize("name", ["variational_bias", "deterministic"])
    def test_rejects_what_is_no_bool(self, name):
        with pytest.raises(TypeError, match=f"`{name}` to be a `bool`"):
            VariationalDense(3, **{name: "no"})

    def test_small_deviations_are_exact(self):
        layer = built(posterior_initializer=1e-6)
        (posterior,) = layer.posteriors()
        np.testing.assert_allclose(posterior.stddev(), 1e-6, rtol=1e-4)

    def test_the_base_needs_a_subclass(self):
        layer = VariationalLayer()
        with pytest.raises(NotImplementedError, match="must write `apply_kernel`"):
            layer.apply_kernel(tf.zeros((1, 1)), tf.zeros((1, 1)))
