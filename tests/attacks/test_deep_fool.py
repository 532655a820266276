import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import RandomNoise
from tests.support.modes import graph_and_xla
from tests.support.nets import linear_net, small_net

CONTRACT = [{"epsilon": 3.0, "steps": 5}, {"epsilon": 0.4, "norm": "linf", "steps": 5}]

# Rows and bias of the linear model whose distances are worked out by hand: logits
# [.6, .2, .3] at the point, .28284271 (l2) and .2 (linf) to class 1, .3 to class 2.
_ROWS, _BIAS = [[1, 0], [0, 1], [1, 1]], [0, 0, -0.5]
_POINT = np.array([0.6, 0.2], "float32").reshape(1, 2, 1, 1)


def linear_case(count=8):
    """A linear net of 4 classes, images amid the range, and the exact distances."""
    generator = np.random.default_rng(5)
    weights, bias = generator.normal(size=(4, 16)), 0.1 * generator.normal(size=4)
    net = linear_net(weights, bias, (4, 4, 1))
    images = generator.uniform(0.4, 0.6, (count, 4, 4, 1)).astype("float32")
    logits = images.reshape(count, -1) @ weights.T + bias
    labels = logits.argmax(-1)
    gaps = logits.max(-1, keepdims=True) - logits
    slopes = weights[labels][:, None] - weights
    exact = {}
    for norm, dual in (("l2", 2), ("linf", 1)):
        sizes = np.linalg.norm(slopes, dual, axis=-1)
        ratios = np.divide(gaps, sizes, out=np.full_like(gaps, np.inf), where=sizes > 0)
        exact[norm] = ratios.min(-1)
    return net, images, labels, exact


def zero_net():
    return linear_net(np.zeros((3, 64)), np.zeros(3), (8, 8, 1))


class TestDeepFool:
    @pytest.mark.parametrize("norm", ["l2", "linf"])
    def test_equals_the_step_by_hand(self, norm):
        result = DeepFool(norm=norm, steps=1)(linear_net(_ROWS, _BIAS), _POINT, [0])
        np.testing.assert_allclose(np.ravel(result), [0.396, 0.404], atol=1e-6)

    @pytest.mark.parametrize("norm", ["l2", "linf"])
    @pytest.mark.parametrize("overshoot", [0.02, 0.1])
    def test_one_step_goes_the_exact_distance(self, norm, overshoot):
        net, images, labels, exact = linear_case()
        for steps in (1, 50):
            found = DeepFool(norm=norm, steps=steps, overshoot=overshoot).search(
                net, images, labels, verbose=0
            )
            assert found.success.all()
            np.testing.assert_allclose(
                found.norms, (1 + overshoot) * exact[norm], rtol=1e-4
            )

    def test_without_overshoot_it_crosses_all_the_same(self):
        net, images, labels, exact = linear_case()
        found = DeepFool(overshoot=0.0).search(net, images, labels, verbose=0)
        assert found.success.all()
        np.testing.assert_allclose(found.norms, exact["l2"], rtol=1e-3)
        for image, label in zip(found.images, labels, strict=True):
            assert net(image[None]).numpy().argmax() != label

    @pytest.mark.parametrize("scale", [1e-12, 1e6])
    def test_does_not_depend_on_the_scale_of_the_logits(
        self, scale, trained_net, digits
    ):
        images = tf.constant(digits.x_test[:8])
        labels = tf.constant(digits.y_test[:8])
        expected, result = (
            DeepFool().look_for(
                LogitsFunction(model), images, labels, np.inf, make_key(0)
            )
            for model in (trained_net, lambda x: scale * trained_net(x))
        )
        assert np.abs(expected - images).max() > 0.1
        np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_candidates_are_the_most_likely_classes(self):
        # Class 2 is the most likely wrong one, class 1 the nearest.
        net = linear_net(_ROWS, _BIAS)
        norms = [
            float(
                DeepFool(candidates=each).search(net, _POINT, [0], verbose=0).norms[0]
            )
            for each in (1, 2, 10)
        ]
        nearest = 1.02 * 0.28284271
        np.testing.assert_allclose(norms, [1.02 * 0.3, nearest, nearest], rtol=1e-5)

    @pytest.mark.parametrize("norm", ["l2", "linf"])
    @pytest.mark.parametrize("overshoot", [0.0, 0.02])
    def test_breaks_in_batches_of_any_size(self, norm, overshoot, trained_net, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        attack = DeepFool(norm=norm, overshoot=overshoot)
        found = attack.search(trained_net, images, labels, verbose=0)
        assert found.success.all()
        for size in (1, 7):
            classes = trained_net.predict(found.images, size, verbose=0).argmax(-1)
            assert np.all(classes != labels)
        # Far below what a step of fixed length needs for half of the images.
        assert np.median(found.norms) < {"l2": 1.0, "linf": 0.2}[norm]

    def test_images_that_are_wrong_already_come_back(self, trained_net, digits):
        images, labels = digits.x_test[:6], (digits.y_test[:6] + 1) % 3
        found = DeepFool().search(trained_net, images, labels, verbose=0)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.norms, np.zeros(6))

    def test_epsilon_bounds_what_counts(self):
        net, images, labels, exact = linear_case()
        epsilon = float(1.02 * np.median(exact["l2"]))
        found = DeepFool(epsilon).search(net, images, labels, verbose=0)
        np.testing.assert_array_equal(found.success, 1.02 * exact["l2"] <= epsilon)
        assert found.success.sum() == 4
        np.testing.assert_array_equal(
            found.images[~found.success], images[~found.success]
        )

    @pytest.mark.parametrize("differentiable", [False, True])
    def test_equal_logits_are_left_alone(self, differentiable, images):
        attack = DeepFool(steps=3, differentiable=differentiable)
        result = attack(zero_net(), images, [0] * 6, seed=1)
        np.testing.assert_array_equal(result, images)

    @pytest.mark.parametrize("norm", ["l2", "linf"])
    def test_stays_in_the_range_at_its_corners(self, norm, trained_net, digits):
        images = digits.x_test[:6].round()
        labels = trained_net(images).numpy().argmax(-1)
        found = DeepFool(norm=norm).search(trained_net, images, labels, verbose=0)
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert found.success.all()

    def test_stops_when_all_are_done(self):
        net, images, labels, _ = linear_case()
        calls = []

        def counted(x):
            calls.append(0)
            return net(x)

        DeepFool(steps=50)(counted, images, labels)
        # The base looks twice; one look, one step and the look after it.
        assert len(calls) == 5

    def test_images_do_not_depend_on_each_other(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        whole = DeepFool()(trained_net, images, labels)
        part = DeepFool()(trained_net, images[:2], labels[:2])
        np.testing.assert_allclose(whole[:2], part, atol=1e-5)

    # In the gate the contract compiles the other.
    @pytest.mark.parametrize(
        "differentiable", [pytest.param(False, marks=pytest.mark.nightly), True]
    )
    def test_is_the_same_compiled(self, differentiable, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:20], digits.y_test[:20]))
        attack = DeepFool(steps=12, differentiable=differentiable)
        craft = functools.partial(attack, trained_net, seed=1)
        eager = craft(images, labels)
        for compiled in graph_and_xla(craft, images, labels):
            np.testing.assert_allclose(compiled(images, labels), eager, atol=1e-4)

    def test_averages_over_draws_of_a_random_model(self, trained_net, digits):
        noisy = keras.Sequential(
            [keras.Input((8, 8, 1)), RandomNoise(0.1), trained_net]
        )
        images, labels = digits.x_test[:30], digits.y_test[:30]
        shares = []
        for samples in (1, 32):
            attack = DeepFool(eot_samples=samples, overshoot=0.1)
            result, again = (
                attack.generate(noisy, images, labels, seed=1, verbose=0)
                for _ in range(2)
            )
            np.testing.assert_array_equal(result, again)
            # How many cross the boundary of the model without noise.
            shares.append(np.mean(trained_net(result).numpy().argmax(-1) != labels))
        # Whatever the seed: at least 0.16 apart for six of them.
        assert shares[1] > shares[0] + 0.1
        eager = attack.replace(eot_samples=2)
        one, other = (eager(noisy, images, labels, seed=1) for _ in range(2))
        np.testing.assert_array_equal(one, other)

    def test_bfloat16_ends_behind_the_exact_boundary(self, trained_net, digits):
        images, labels = digits.x_test[:20], digits.y_test[:20]
        norms = []
        for precision in ("float32", "bfloat16"):
            attack = DeepFool(precision=precision)
            found = attack.search(trained_net, images, labels, verbose=0)
            assert found.success.all()
            norms.append(np.median(found.norms))
        assert norms[1] == pytest.approx(norms[0], rel=0.03)

    def test_float16_gives_finite_perturbations(self, images, labels):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        result = DeepFool()(net, images, labels)
        assert np.isfinite(result).all()

    @pytest.mark.parametrize(
        ("name", "value"), [("steps", 0), ("overshoot", -0.1), ("candidates", 0)]
    )
    def test_rejects_what_leads_nowhere(self, name, value):
        with pytest.raises(ValueError, match=f"`DeepFool` expects `{name}`"):
            DeepFool(**{name: value})


def smooth_net():
    """A net without kinks, so that finite differences mean something."""
    return keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


class TestDifferentiableDeepFool:
    @staticmethod
    def norms(net, images, labels, **arguments):
        attack = DeepFool(**{"differentiable": True, "steps": 3, **arguments})
        found = attack.look_for(
            LogitsFunction(net), images, labels, tf.constant(np.inf), make_key(0)
        )
        # The guard keeps the derivative finite where nothing moved.
        squares = tf.reduce_sum(tf.square(found - images), [1, 2, 3])
        return tf.sqrt(squares + 1e-12)

    @staticmethod
    def inputs(net):
        generator = np.random.default_rng(0)
        images = generator.uniform(0.45, 0.55, (4, 3, 3, 1)).astype("float32")
        return tf.constant(images), tf.constant(net(images).numpy().argmax(-1))

    @pytest.mark.parametrize("norm", ["l2", "linf"])
    @pytest.mark.parametrize("steps", [1, 3])
    def test_gradients_of_weights_match_finite_differences(self, norm, steps):
        net = smooth_net()
        net.layers[-1].bias.assign([0.1, -0.1, 0.05])
        images, labels = self.inputs(net)

        def total():
            return tf.reduce_sum(
                self.norms(net, images, labels, norm=norm, steps=steps)
            )

        with tf.GradientTape() as tape:
            value = total()
        # The points lie inside the range, where no clipping hides a derivative.
        assert 0.01 < float(value) < 4 * 0.4
        gradients = tape.gradient(value, net.trainable_weights)
        for variable, gradient in zip(net.trainable_weights, gradients, strict=True):
            direction = np.random.default_rng(1).normal(size=variable.shape)
            direction = (direction / np.linalg.norm(direction)).astype("float32")
            start, width = variable.numpy(), 1e-3
            ends = []
            for sign in (1, -1):
                variable.assign(start + sign * width * direction)
                ends.append(float(total()))
            variable.assign(start)
            slope = (ends[0] - ends[1]) / (2 * width)
            assert slope == pytest.approx(
                float(tf.reduce_sum(gradient * direction)), rel=0.02, abs=2e-3
            )
            assert abs(slope) > 1e-3

    def test_loops_and_graphs_have_the_same_gradients(self):
        net = smooth_net()
        images, labels = self.inputs(net)

        def gradients(steps):
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(self.norms(net, images, labels, steps=steps))
            return tape.gradient(total, net.trainable_weights)

        # Three steps are written out; twelve, of which most change nothing, loop.
        expected = gradients(3)
        for steps in (3, 12):
            for compiled in graph_and_xla(functools.partial(gradients, steps)):
                for one, other in zip(expected, compiled(), strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)

    def test_dead_models_have_finite_gradients(self, images, labels):
        net = zero_net()
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(
                self.norms(net, tf.constant(images), tf.constant(labels))
            )
        for gradient in tape.gradient(total, net.trainable_weights):
            assert np.isfinite(gradient).all()

    def test_without_the_switch_nothing_passes(self):
        net = smooth_net()
        images, labels = self.inputs(net)
        with tf.GradientTape() as tape:
            norms = self.norms(net, images, labels, differentiable=False)
        gradients = tape.gradient(norms, net.trainable_weights)
        assert gradients == [None] * 4
        np.testing.assert_allclose(norms, self.norms(net, images, labels, steps=50))
