import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.boundary_attack import BoundaryAttack, _proposals
from keras_advdef.core.random_numbers import make_key
from tests.attacks.test_decisions import halfspace, one_hot_of
from tests.support.check_attack import distance
from tests.support.modes import graph_and_xla

CONTRACT = [{"epsilon": 6.0, "steps": 20, "spherical_step": 0.1, "source_step": 0.1}]


def quick(**arguments):
    """A short walk, which has to begin with longer moves."""
    short = {"steps": 200, "spherical_step": 0.1, "source_step": 0.1}
    return BoundaryAttack(**{**short, **arguments})


class TestBoundaryAttack:
    @pytest.mark.parametrize(("pixels", "steps"), [(2, 300), (16, 1000)])
    def test_comes_near_the_exact_distance(self, pixels, steps):
        net, images, exact = halfspace(pixels, 0.1 if pixels == 2 else 0.4)
        found = quick(steps=steps).search(net, images, [0] * 4, seed=1, verbose=0)
        assert found.success.all()
        assert np.all(found.norms >= exact["l2"] * (1 - 1e-4))
        assert np.all(found.norms <= exact["l2"] * 1.1)
        assert found.images.min() >= 0
        assert found.images.max() <= 1

    def test_sees_decisions_only(self):
        net, images, _ = halfspace()
        blind = one_hot_of(net)
        attack = tf.function(
            functools.partial(quick(), labels=[0] * 4, seed=1), autograph=False
        )
        one = attack(net, images)
        np.testing.assert_allclose(one, attack(blind, images))
        assert np.all(blind(one).numpy().argmax(-1) == 1)

    def test_more_steps_never_lead_further_away(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        norms = [
            quick(steps=steps)
            .search(trained_net, images, labels, seed=2, verbose=0)
            .norms
            for steps in (1, 100, 400)
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

    def test_reaches_targets(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        targets = (labels + 1) % 3
        found = quick(targeted=True).search(
            trained_net, images, target_labels=targets, seed=2, verbose=0
        )
        assert found.success.all()
        assert np.all(trained_net(found.images).numpy().argmax(-1) == targets)
        # Nearer than the images of the batch from which it started.
        others = [
            distance(images[labels == target], image[None], "l2").min()
            for image, target in zip(images, targets, strict=True)
        ]
        assert np.all(found.norms < others)

    def test_stays_in_the_range_at_its_corners(self, trained_net, digits):
        images = digits.x_test[:6].round()
        labels = trained_net(images).numpy().argmax(-1)
        found = quick().search(trained_net, images, labels, seed=2, verbose=0)
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert np.isfinite(found.images).all()
        assert found.success.any()

    def test_a_constant_model_is_left_alone(self, images):
        def constant(each):
            return tf.zeros((tf.shape(each)[0], 3))

        result = quick(starting_tries=3)(constant, images, [0] * 6, seed=1)
        np.testing.assert_array_equal(result, images)

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    def test_is_the_same_compiled(self, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:40], digits.y_test[:40]))
        craft = functools.partial(quick(steps=40), trained_net, seed=1)
        eager = distance(craft(images, labels), images, "l2")
        for compiled in graph_and_xla(craft, images, labels):
            result = compiled(images, labels)
            reached = trained_net(result).numpy().argmax(-1)
            assert np.mean(reached != labels) > 0.98
            # A rounded decision sends one walk another way, not all of them.
            norms = distance(result, images, "l2")
            assert np.median(norms) == pytest.approx(np.median(eager), rel=0.1)

    def test_images_do_not_depend_on_each_other(self):
        net, images, _ = halfspace()
        others = np.concatenate([images[:2], 0.9 * images[2:]])
        attack = quick(steps=30)
        one, two = (attack(net, each, [0] * 4, seed=1) for each in (images, others))
        np.testing.assert_allclose(one[:2], two[:2], atol=1e-6)
        assert np.any(np.abs(one[2:] - two[2:]) > 0.01)

    def test_seeds_fix_the_walk(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        attack = quick(steps=10)
        one = attack(trained_net, images, labels, seed=1)
        np.testing.assert_array_equal(one, attack(trained_net, images, labels, seed=1))
        assert np.any(one != attack(trained_net, images, labels, seed=2))

    def test_proposals_lie_on_the_sphere_and_further_in(self):
        images = tf.fill((5, 4, 4, 1), 0.5)
        points = images + tf.reshape(tf.linspace(-0.05, 0.05, 80), (5, 4, 4, 1))
        state = quick(spherical_step=0.2, source_step=0.1)._begin(points)
        sphere, inner = _proposals(images, state, make_key(0))
        before = distance(points, images, "l2")
        np.testing.assert_allclose(distance(sphere, images, "l2"), before, rtol=1e-5)
        np.testing.assert_allclose(
            distance(inner, images, "l2"), 0.9 * before, rtol=1e-5
        )
        # A move of a fifth of the radius, at right angles, then drawn back.
        chord = np.sqrt(2 - 2 / np.sqrt(1.04))
        np.testing.assert_allclose(
            distance(sphere, points, "l2"), chord * before, rtol=1e-4
        )

    @pytest.mark.parametrize(
        ("hits", "factor"), [(0.0, 0.5), (1.0, 0.5), (4.0, 1.0), (6.0, 2.0)]
    )
    def test_inward_moves_follow_their_successes(self, hits, factor):
        # Of 20 proposals: below a tenth shorter, above a quarter longer.
        attack = BoundaryAttack(step_adaptation=2.0)
        state = attack._begin(tf.zeros((2, 1, 1, 1)))
        state["source_hits"] = tf.constant([hits, hits])
        state["source_count"] = tf.constant([20.0, 19.0])
        adapted = attack._adapted(state, "source", 20.0, (0.1, 0.25))
        np.testing.assert_allclose(adapted["source_step"], [0.01 * factor, 0.01])
        np.testing.assert_allclose(adapted["spherical_step"], [0.01, 0.01])
        np.testing.assert_allclose(adapted["source_count"], [0, 19])
        np.testing.assert_allclose(adapted["source_hits"], [0, hits])

    def test_both_lengths_follow_the_sphere_up_to_one(self):
        attack = BoundaryAttack(step_adaptation=3.0, spherical_step=0.9)
        state = attack._begin(tf.zeros((1, 1, 1, 1)))
        state["spherical_hits"] = state["spherical_count"] = tf.constant([10.0])
        adapted = attack._adapted(state, "spherical", 10.0, (0.2, 0.5))
        np.testing.assert_allclose(adapted["spherical_step"], [1.0])
        np.testing.assert_allclose(adapted["source_step"], [0.03])

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("steps", 0),
            ("spherical_step", 0.0),
            ("source_step", 1.5),
            ("step_adaptation", 1.0),
            ("starting_tries", 0),
        ],
    )
    def test_rejects_what_moves_nothing(self, name, value):
        with pytest.raises(ValueError, match=f"`BoundaryAttack` expects `{name}`"):
            BoundaryAttack(**{name: value})
