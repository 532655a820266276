import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.core.random_numbers import make_key
from tests.attacks.test_decisions import halfspace, one_hot_of
from tests.support.check_attack import distance
from tests.support.modes import graph_and_xla

CONTRACT = [
    {"epsilon": 3.0, "steps": 2, "initial_evaluations": 10},
    {"epsilon": 0.5, "norm": "linf", "steps": 2, "initial_evaluations": 10},
    {"epsilon": 20.0, "norm": "l1", "steps": 2, "initial_evaluations": 10},
]

# Only steps and probes depend on the norm; these are tested in all in the gate.
NORMS = pytest.mark.parametrize(
    "norm",
    ["l2", *(pytest.param(n, marks=pytest.mark.nightly) for n in ("linf", "l1"))],
)


def quick(**arguments):
    return HopSkipJump(**{"steps": 8, "initial_evaluations": 40, **arguments})


class TestHopSkipJump:
    @pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
    @pytest.mark.parametrize("pixels", [2, 16])
    def test_comes_near_the_exact_distance(self, norm, pixels):
        net, images, exact = halfspace(pixels, 0.1 if pixels == 2 else 0.4)
        attack = quick(norm=norm, steps=15, initial_evaluations=100)
        found = attack.search(net, images, [0] * 4, seed=1, verbose=0)
        assert found.success.all()
        assert np.all(found.norms >= exact[norm] * (1 - 1e-4))
        assert np.all(found.norms <= exact[norm] * 1.1)
        assert found.images.min() >= 0
        assert found.images.max() <= 1

    @NORMS
    def test_sees_decisions_only(self, norm):
        net, images, _ = halfspace()
        blind = one_hot_of(net)
        attack = tf.function(
            functools.partial(quick(norm=norm), labels=[0] * 4, seed=1),
            autograph=False,
        )
        one = attack(net, images)
        np.testing.assert_allclose(one, attack(blind, images))
        assert np.all(blind(one).numpy().argmax(-1) == 1)

    def test_estimates_the_gradient(self):
        net, images, exact = halfspace()
        weights = net.layers[-1].get_weights()[0][:, 1]
        # A point on the plane, from which half of the probes hold.
        away = exact["l2"][0] * weights / np.linalg.norm(weights)
        plane = images[0].reshape(-1) + away
        points = tf.constant(plane.reshape(1, 16, 1, 1), tf.float32)

        def decide(each, key):
            # The logits are 0 and the signed distance, up to a factor.
            return net(each)[:, 1] > 0

        for norm in ("l2", "linf", "l1"):
            slope = quick(norm=norm, initial_evaluations=1000)._slope(
                decide, points, tf.constant([0.05]), tf.constant(2000.0), make_key(0)
            )
            slope = slope.numpy().ravel()
            cosine = slope @ weights / np.linalg.norm(slope) / np.linalg.norm(weights)
            assert cosine > 0.97

    @pytest.mark.parametrize("phi", [1.0, -1.0])
    def test_probes_that_agree_still_give_a_direction(self, phi):
        points = tf.fill((1, 4, 1, 1), 0.5)
        slope = quick()._slope(
            lambda each, key: tf.fill(tf.shape(each)[:1], phi > 0),
            points,
            tf.constant([0.1]),
            tf.constant(10.0),
            make_key(0),
        )
        assert np.abs(slope).max() > 0.01

    @NORMS
    def test_more_steps_never_lead_further_away(self, norm, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        norms = [
            quick(norm=norm, steps=steps)
            .search(trained_net, images, labels, seed=2, verbose=0)
            .norms
            for steps in (1, 3, 8)
        ]
        assert np.all(norms[1] <= norms[0] + 1e-6)
        assert np.all(norms[2] <= norms[1] + 1e-6)
        assert np.median(norms[2]) < 0.8 * np.median(norms[0])

    def test_epsilon_bounds_what_counts(self):
        net, images, _ = halfspace()
        norms = quick().search(net, images, [0] * 4, seed=1, verbose=0).norms
        epsilon = float(np.sort(norms)[1] + 1e-5)
        bounded = quick(epsilon=epsilon)
        found = bounded.search(net, images, [0] * 4, seed=1, verbose=0)
        np.testing.assert_array_equal(found.success, norms <= epsilon)
        assert found.success.sum() == 2
        np.testing.assert_array_equal(
            found.images[~found.success], images[~found.success]
        )

    @NORMS
    def test_reaches_targets(self, norm, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        targets = (labels + 1) % 3
        found = quick(norm=norm, targeted=True).search(
            trained_net, images, target_labels=targets, seed=2, verbose=0
        )
        assert found.success.all()
        assert np.all(trained_net(found.images).numpy().argmax(-1) == targets)
        # Nearer than the images of the batch from which it started.
        others = [
            distance(images[labels == target], image[None], norm).min()
            for image, target in zip(images, targets, strict=True)
        ]
        assert np.all(found.norms < others)

    def test_stays_in_the_range_at_its_corners(self, trained_net, digits):
        images = digits.x_test[:6].round()
        labels = trained_net(images).numpy().argmax(-1)
        found = quick(norm="linf").search(
            trained_net, images, labels, seed=2, verbose=0
        )
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert np.isfinite(found.images).all()
        assert found.success.any()

    @pytest.mark.parametrize("norm", ["l2", "linf"])
    def test_a_constant_model_is_left_alone(self, norm, images):
        def constant(each):
            return tf.zeros((tf.shape(each)[0], 3))

        attack = quick(norm=norm, starting_tries=3)
        result = attack(constant, images, [0] * 6, seed=1)
        np.testing.assert_array_equal(result, images)

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    @pytest.mark.parametrize("norm", ["l2", "linf"])
    def test_is_the_same_compiled(self, norm, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:40], digits.y_test[:40]))
        attack = quick(norm=norm, steps=3, initial_evaluations=12)
        craft = functools.partial(attack, trained_net, seed=1)
        eager = distance(craft(images, labels), images, norm)
        for compiled in graph_and_xla(craft, images, labels):
            result = compiled(images, labels)
            reached = trained_net(result).numpy().argmax(-1)
            assert np.mean(reached != labels) > 0.98
            # A rounded decision sends one walk another way, not all of them.
            norms = distance(result, images, norm)
            assert np.median(norms) == pytest.approx(np.median(eager), rel=0.1)

    def test_images_do_not_depend_on_each_other(self):
        net, images, _ = halfspace()
        others = np.concatenate([images[:2], 0.9 * images[2:]])
        attack = quick(steps=3)
        one, two = (attack(net, each, [0] * 4, seed=1) for each in (images, others))
        np.testing.assert_allclose(one[:2], two[:2], atol=1e-6)
        assert np.any(np.abs(one[2:] - two[2:]) > 0.01)

    def test_seeds_fix_the_walk(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        attack = quick(steps=2)
        one = attack(trained_net, images, labels, seed=1)
        np.testing.assert_array_equal(one, attack(trained_net, images, labels, seed=1))
        assert np.any(one != attack(trained_net, images, labels, seed=2))

    def test_passes_are_bounded(self):
        attack = HopSkipJump(initial_evaluations=100)
        assert attack._chunk(tf.zeros((2, 8, 8, 1))) == 25
        assert attack._chunk(tf.zeros((128, 28, 28, 1))) == 8
        assert attack._chunk(tf.zeros((8, 224, 224, 3))) == 3
        assert attack._chunk(tf.zeros((2000, 2, 2, 1))) == 1

    @pytest.mark.parametrize(
        ("norm", "pixels", "halvings"),
        [
            ("l2", 2, 10),
            ("l2", 784, 15),
            ("l1", 784, 15),
            ("linf", 100, 14),
            ("linf", 3072, 20),
        ],
    )
    def test_search_is_as_fine_as_the_paper_says(self, norm, pixels, halvings):
        # 784**-1.5 = 2**-14.4 and 100**-2 = 2**-13.3.
        attack = HopSkipJump(norm=norm)
        assert attack._halvings(tf.zeros((1, pixels, 1, 1))) == halvings

    def test_probes_shrink_with_the_distance(self):
        images = tf.zeros((1, 784, 1, 1))
        delta = HopSkipJump()._delta(images, tf.constant([2.0]), tf.constant(1))
        assert float(delta[0]) == pytest.approx(28 * 2.0**-15 * 2.0)
        first = HopSkipJump()._delta(images, tf.constant([2.0]), tf.constant(0))
        assert float(first[0]) == pytest.approx(0.1)

    @pytest.mark.parametrize(
        "name", ["steps", "initial_evaluations", "max_evaluations", "starting_tries"]
    )
    def test_rejects_too_few(self, name):
        with pytest.raises(ValueError, match=f"`HopSkipJump` expects `{name}`.*=0"):
            HopSkipJump(**{name: 0})

    def test_rejects_l0(self):
        with pytest.raises(ValueError, match=r"`HopSkipJump` expects `norm`.*'l0'"):
            HopSkipJump(norm="l0")
