import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.attacks.spsa import SPSA
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net

CONTRACT = [{"epsilon": 0.1, "steps": 2, "samples": 8}]

# The margin of class 0 on this net is (second row - first row) x = GRADIENT x.
GRADIENT = np.array([1.0, -2.0, 0.5, 3.0])


def plane():
    return linear_net([np.zeros(4), GRADIENT], np.zeros(2), (2, 2, 1))


def estimates(attack, model, images, seed=0):
    """The estimated gradient of each image, flat."""
    logits_fn = LogitsFunction(model)
    images = tf.constant(images, tf.float32)
    labels = tf.zeros(len(images), tf.int64)
    state = attack.init_state(
        logits_fn, images, labels, 0.1, make_key(0), tf.constant(0)
    )
    gradient = attack.slope(logits_fn, state, make_key(seed))[2]
    return gradient.numpy().reshape(len(images), -1)


def correct(net, images, labels):
    return np.argmax(net(images), axis=-1) == labels


class TestEstimate:
    # Inside, one pixel at the lower edge, one at the upper one.
    @pytest.mark.parametrize("pixels", [[0.5] * 4, [0.0, 0.5, 1.0, 0.3]])
    def test_has_mean_and_variance_of_a_linear_model(self, pixels):
        images = np.tile(np.reshape(pixels, (1, 2, 2, 1)), (4000, 1, 1, 1))
        found = estimates(SPSA(0.1, samples=1, delta=0.01), plane(), images)
        # A pair's estimate for pixel i is the sum over j of g_j w_j s_j / (w_i s_i)
        # with random signs s and widths w, halved where the range ends.
        widths = np.where(np.isin(pixels, [0.0, 1.0]), 0.5, 1.0)
        energy = (GRADIENT * widths) ** 2
        variance = (energy.sum() - energy) / widths**2
        deviation = np.sqrt(variance / len(images))
        assert np.all(np.abs(found.mean(axis=0) - GRADIENT) < 4 * deviation)
        np.testing.assert_allclose(found.var(axis=0), variance, rtol=0.1)

    def test_averages_over_its_samples(self):
        images = np.full((1000, 2, 2, 1), 0.5)
        one = estimates(SPSA(0.1, samples=1), plane(), images).var(axis=0)
        many = estimates(SPSA(0.1, samples=16), plane(), images).var(axis=0)
        np.testing.assert_allclose(many, one / 16, rtol=0.25)

    def test_of_several_draws_averages_too(self):
        images = np.full((1000, 2, 2, 1), 0.5)
        one = estimates(SPSA(0.1, samples=2), plane(), images).var(axis=0)
        many = estimates(SPSA(0.1, samples=2, eot_samples=8), plane(), images)
        np.testing.assert_allclose(many.var(axis=0), one / 8, rtol=0.25)

    def test_does_not_see_the_noise_of_a_random_model(self):
        # Both points of a pair meet the same draw, which the difference cancels.
        noisy = keras.Sequential([keras.Input((2, 2, 1)), RandomNoise(1.0), plane()])
        images = np.full((20, 2, 2, 1), 0.5)
        attack = SPSA(0.1, samples=4)
        expected = estimates(attack, plane(), images)
        np.testing.assert_allclose(
            estimates(attack, noisy, images), expected, atol=1e-2
        )

    def test_is_negative_for_a_target(self):
        images = np.full((5, 2, 2, 1), 0.5)
        away = estimates(SPSA(0.1, samples=8), plane(), images)
        towards = estimates(SPSA(0.1, samples=8, targeted=True), plane(), images)
        np.testing.assert_allclose(towards, -away, atol=1e-3)

    def test_points_stay_in_the_range_of_the_pixels(self):
        seen = []

        def model(images):
            seen.append(images.numpy())
            return tf.reduce_mean(images, axis=(1, 2)) * [1.0, -1.0]

        images = np.array([[0.0, 0.004], [0.999, 1.0]]).reshape(1, 2, 2, 1)
        estimates(SPSA(0.1, samples=10), model, images)
        assert min(each.min() for each in seen) == 0.0
        assert max(each.max() for each in seen) == 1.0


class TestSPSA:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_crosses_the_boundary_of_a_linear_model_where_pgd_does(self, norm):
        net = plane()
        images = np.array([0.6, 0.4, 0.6, 0.4], "float32").reshape(1, 2, 2, 1)
        # The margin is .6 - .8 + .3 + 1.2 = 1.3: class 1 is left towards class 0.
        exact = 1.3 / {"linf": 6.5, "l2": np.linalg.norm(GRADIENT)}[norm]
        settings = {"norm": norm, "steps": 40, "loss": "margin", "random_start": False}
        spsa, pgd = SPSA(samples=64, **settings), PGD(**settings)
        for factor, is_broken in ((0.99, False), (1.01, True)):
            for attack in (spsa, pgd):
                found = attack.generate(
                    net, images, [1], epsilon=factor * exact, seed=0, verbose=0
                )
                assert correct(net, found, 1).item() != is_broken

    def test_breaks_a_model_that_has_no_gradient(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]

        def model(images):
            return tf.stop_gradient(trained_net(images))

        with pytest.raises(ValueError, match="loss without any gradient"):
            PGD(0.15, steps=2)(model, x, y)
        settings = {"steps": 10, "loss": "margin", "random_start": False}
        attack = SPSA(0.15, samples=32, **settings)
        found = attack.generate(model, x, y, seed=0, verbose=0)
        pgd = PGD(0.15, **settings).generate(trained_net, x, y, seed=0, verbose=0)
        left = [correct(trained_net, each, y).mean() for each in (x, found, pgd)]
        assert left[0] > 0.9
        assert left[1] < 0.5
        # An estimate is no better than the gradient itself.
        assert left[1] >= left[2] - 0.05

    def test_momentum_averages_estimates_over_the_steps(self):
        # Of 64 pixels, two pairs tell little at a time.
        weights = np.random.default_rng(3).normal(0, 1, 64)
        net = linear_net([weights, 0 * weights], np.zeros(2), (8, 8, 1))
        images = np.full((20, 8, 8, 1), 0.5, "float32")
        reached = []
        for momentum in (0.0, 0.9):
            attack = SPSA(0.1, steps=30, samples=2, momentum=momentum)
            found = attack.generate(net, images, [0] * 20, seed=0, verbose=0)
            moved = (found - images).reshape(20, 64) @ -weights
            reached.append(np.mean(moved) / (0.1 * np.abs(weights).sum()))
        assert reached[0] + 0.1 < reached[1] <= 1.0

    def test_costs_two_passes_a_sample_and_one_a_step(self, images, labels, net):
        passes = []

        def model(images):
            passes.append(len(images))
            return net(images)

        SPSA(0.1, steps=2, samples=3)(model, images, labels, seed=0)
        # The last point is looked at once more; never more than one batch at a time.
        assert passes == [6] * (2 * (2 * 3 + 1) + 1)

    def test_delta_is_in_the_units_of_the_range(self, images, labels, net):
        unit = SPSA(0.1, steps=3, samples=8, delta=0.02)
        wide = SPSA(25.5, steps=3, samples=8, delta=5.1, value_range=(0, 255))
        scaled = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255)]
        )
        scaled.add(net)
        expected = unit(net, images, labels, seed=0)
        found = wide(scaled, 255 * images, labels, seed=0) / 255
        # The sign of a tiny estimate may flip with the rounding of the images.
        assert np.mean(np.abs(found - expected) < 1e-4) > 0.98

    def test_reaches_targets(self, trained_net, digits):
        x = digits.x_test[:20]
        targets = (digits.y_test[:20] + 1) % 3
        attack = SPSA(0.3, steps=10, samples=32, targeted=True)
        found = attack.generate(
            trained_net, x, target_labels=targets, seed=0, verbose=0
        )
        assert correct(trained_net, found, targets).mean() > 0.6

    @pytest.mark.parametrize(
        ("argument", "value"), [("samples", 0), ("delta", 0.0), ("delta", 1.5)]
    )
    def test_rejects(self, argument, value):
        with pytest.raises(ValueError, match=f"`SPSA` expects `{argument}` to be"):
            SPSA(0.1, **{argument: value})

    def test_names_itself_after_its_steps(self):
        assert str(SPSA(0.3)) == "SPSA-100"
        assert str(SPSA(0.3, steps=10, restarts=2)) == "SPSA-10 x 2"


def test_model_may_ask_for_the_shape_of_its_images():
    def model(images):
        flat = tf.reshape(images, [-1, int(np.prod(images.shape[1:]))])
        return flat @ np.stack([np.zeros(4), GRADIENT], axis=1).astype("float32")

    attack = SPSA(0.1, steps=2, samples=4)
    images = np.full((2, 2, 2, 1), 0.5, "float32")
    assert attack.generate(model, images, [0, 0], seed=0, verbose=0).shape == (
        2,
        2,
        2,
        1,
    )
