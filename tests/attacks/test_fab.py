import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.attacks._compiled_attack import CompiledAttack
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fab import FAB
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from tests.support.check_attack import distance
from tests.support.modes import graph_and_xla
from tests.support.nets import busy_net, linear_net

CONTRACT = [
    {"epsilon": 0.4, "steps": 5},
    {"epsilon": 3.0, "norm": "l2", "steps": 5, "target_classes": 2},
    {"epsilon": 15.0, "norm": "l1", "steps": 5},
]

NORMS = ("linf", "l2", "l1")
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


def linear_case(norm, classes=4, pixels=16):
    """A linear net, images amid the box, labels, and exact distances by class."""
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(classes, pixels))
    images = generator.uniform(0.4, 0.6, (8, pixels)).astype("float32")
    bias = -weights.sum(1) / 2
    logits = images @ weights.T + bias
    labels = logits.argmax(-1)
    gaps = logits.max(-1, keepdims=True) - logits
    differences = weights[labels][:, np.newaxis] - weights
    slopes = np.linalg.norm(differences, DUAL[norm], axis=-1)
    exact = np.where(gaps > 0, gaps / np.maximum(slopes, 1e-9), np.inf)
    net = linear_net(weights, bias, (pixels, 1, 1))
    return net, images.reshape(8, pixels, 1, 1), labels, exact


def constant_net(images):
    """Three equal logits, with a gradient of zero."""
    return tf.reduce_sum(images, [1, 2, 3])[:, tf.newaxis] * tf.zeros((1, 3))


def search(attack, *arguments, **keywords):
    return attack.search(*arguments, seed=1, verbose=0, **keywords)


class TestDistances:
    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("arguments", [{}, {"target_classes": 9}, {"restarts": 2}])
    def test_exact_on_a_linear_model(self, norm, arguments):
        net, images, labels, exact = linear_case(norm)
        found = search(FAB(norm=norm, steps=10, **arguments), net, images, labels)
        assert found.success.all()
        nearest = exact.min(1)
        assert np.all(found.norms >= nearest * (1 - 1e-5))
        assert np.all(found.norms <= nearest * 1.01)

    @pytest.mark.parametrize("norm", NORMS)
    def test_exact_where_pixels_saturate(self, norm):
        # w = (4, 3, 2, 1) from x = (0.9, 0.5, 0.5, 0.5): 0.4 + 0.3 * 6 = 2.2 away,
        # so linf moves the last three by 0.3; l2 by 1.8 / 14 * (3, 2, 1); l1 fills
        # the second by 0.5 and then the third by 0.15.
        weights = np.array([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
        image = np.array([0.9, 0.5, 0.5, 0.5], "float32")
        net = linear_net(-weights, [weights[0] @ image + 2.2, 0.0], (4, 1, 1))
        exact = {
            "linf": 0.3,
            "l2": np.hypot(0.1, 1.8 / np.sqrt(14)),
            "l1": 0.1 + 0.5 + 0.15,
        }[norm]
        attack = FAB(norm=norm, steps=20)
        found = search(attack, net, image.reshape(1, 4, 1, 1), [0])
        assert exact * (1 - 1e-5) <= found.norms[0] <= exact * 1.01

    @pytest.mark.parametrize("norm", NORMS)
    def test_targeted_reaches_the_target_at_its_distance(self, norm):
        # Two classes: the tie with the label is the only boundary of the target.
        net, images, labels, exact = linear_case(norm, classes=2)
        attack = FAB(norm=norm, steps=10, targeted=True)
        found = search(attack, net, images, target_labels=1 - labels)
        assert found.success.all()
        np.testing.assert_allclose(found.norms / exact.min(1), 1.005, atol=0.005)

    def test_targeted_among_several_classes(self, trained_net, digits):
        images, labels = digits.x_test[:12], digits.y_test[:12]
        for shift in (1, 2):
            goal = (labels + shift) % 3
            found = search(
                FAB(steps=20, targeted=True), trained_net, images, target_labels=goal
            )
            reached = np.argmax(trained_net(found.images), -1)
            assert found.success.all()
            np.testing.assert_array_equal(reached, goal)

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_nearer_than_deep_fool(self, norm, trained_net, digits):
        images, labels = digits.x_test[:32], digits.y_test[:32]
        ours = search(FAB(norm=norm, steps=30), trained_net, images, labels)
        other = search(DeepFool(norm=norm), trained_net, images, labels)
        assert ours.success.all()
        assert np.median(ours.norms) < np.median(other.norms)
        assert np.mean(ours.norms <= other.norms * 1.01) >= 0.9

    @pytest.mark.parametrize("norm", NORMS)
    def test_as_near_as_pgd_succeeds(self, norm, trained_net, digits):
        images, labels = digits.x_test[:32], digits.y_test[:32]
        found = search(FAB(norm=norm, steps=30), trained_net, images, labels)
        epsilon = float(np.median(found.norms)) * 0.8
        attack = PGD(epsilon, norm=norm, steps=40, loss="margin")
        adversarial = attack.generate(trained_net, images, labels, seed=0, verbose=0)
        broken = np.argmax(trained_net(adversarial), -1) != labels
        assert np.mean(found.norms <= epsilon) >= np.mean(broken) - 0.1

    def test_more_steps_never_lead_further_away(self, trained_net, digits):
        images, labels = digits.x_test[:8], digits.y_test[:8]
        norms = [
            search(FAB(norm="l2", steps=steps), trained_net, images, labels).norms
            for steps in (3, 10, 30)
        ]
        assert np.all(norms[1] <= norms[0] + 1e-6)
        assert np.all(norms[2] <= norms[1] + 1e-6)

    def test_the_scale_of_the_logits_does_not_matter(self):
        net, images, labels, _ = linear_case("l2")
        norms = [
            search(
                FAB(norm="l2", steps=6), lambda x, k=k: k * net(x), images, labels
            ).norms
            for k in (1.0, 0.1, 1e6)
        ]
        np.testing.assert_allclose(norms[1:], [norms[0]] * 2, rtol=1e-3)


class TestRuns:
    def test_one_for_each_target_and_restart(self):
        assert FAB(restarts=3).runs(10) == 3
        assert FAB(restarts=3, target_classes=4).runs(10) == 12
        assert FAB(restarts=3, target_classes=4).runs(3) == 6
        assert FAB(restarts=3, targeted=True).runs(3) == 3

    def test_aim_at_the_most_likely_wrong_classes(self):
        net, images, labels, _ = linear_case("linf")
        ranked = np.argsort(-net(images).numpy(), -1)
        attack, logits_fn = FAB(target_classes=2, restarts=2), LogitsFunction(net)
        for run in range(4):
            state = attack.start(
                logits_fn,
                tf.constant(images),
                tf.constant(labels),
                tf.constant(0.1),
                make_key(0),
                tf.constant(run),
            )
            np.testing.assert_array_equal(state["likely"][:, 0], ranked[:, 1 + run % 2])

    @pytest.mark.parametrize("norm", NORMS)
    def test_an_aimed_run_goes_to_its_class(self, norm):
        net, images, labels, exact = linear_case(norm)
        attack = FAB(norm=norm, target_classes=3, steps=10)
        logits_fn, key = LogitsFunction(net), make_key(0)
        images, epsilon = tf.constant(images), tf.constant(np.inf, tf.float32)
        distances = np.sort(exact, -1)
        for run in range(3):
            state = attack.start(
                logits_fn, images, tf.constant(labels), epsilon, key, tf.constant(run)
            )
            target = state["likely"].numpy()[:, 0]
            state = attack.repeat(logits_fn, state, epsilon, key, 10)
            norms = -state["best_loss"].numpy()
            aimed = np.take_along_axis(exact, target[:, np.newaxis], 1)[:, 0]
            # On its way it may meet another boundary, never a nearer point.
            assert np.all(norms <= aimed * 1.01)
            assert np.all(norms >= distances[:, 0] * (1 - 1e-5))

    @pytest.mark.parametrize("norm", NORMS)
    def test_later_restarts_begin_at_half_of_epsilon(self, norm, net, images, labels):
        attack, logits_fn = FAB(norm=norm, restarts=2), LogitsFunction(net)
        starts = [
            attack.start(
                logits_fn, tf.constant(images), tf.constant(labels), 0.08, key, run
            )["iterate"].numpy()
            for key, run in [
                (make_key(0), tf.constant(0)),
                (make_key(0), tf.constant([1] * 6)),
                (make_key(1), tf.constant([1, 0, 1, 0, 1, 0])),
            ]
        ]
        np.testing.assert_array_equal(starts[0], images)
        np.testing.assert_allclose(distance(starts[1], images, norm), 0.04, rtol=1e-4)
        np.testing.assert_array_equal(starts[2][1::2], images[1::2])
        assert np.all(starts[2][::2] != starts[1][::2])

    def test_restarts_never_lead_further_away(self, trained_net, digits):
        images, labels = digits.x_test[:16], digits.y_test[:16]
        one, four = (
            search(
                FAB(norm="l2", steps=10, restarts=restarts), trained_net, images, labels
            ).norms
            for restarts in (1, 4)
        )
        assert np.all(four <= one + 1e-6)
        assert np.any(four < one * 0.99)

    def test_passes_of_a_step(self):
        net, images, labels, _ = linear_case("linf")
        passes = []

        def counted(each):
            passes.append(1)
            return net(each)

        counts = []
        for steps in (2, 3):
            passes.clear()
            FAB(steps=steps, target_classes=1)(counted, images[:1], labels[:1])
            counts.append(len(passes))
        # The loop is traced eagerly: one pass with a gradient and one without.
        assert counts[1] - counts[0] == 2


def graph_size(attack, net, classes):
    """Operations of a traced attack, those of its loops included."""
    traced = tf.function(
        lambda x, y: attack(net, x, y, seed=1), autograph=False
    ).get_concrete_function(tf.TensorSpec([2, 4, 4, 1]), tf.TensorSpec([2], tf.int64))
    inner = [each.graph for each in traced.graph._functions.values()]
    return sum(len(each.get_operations()) for each in (traced.graph, *inner))


class TestCandidates:
    def net(self, classes, pixels=16):
        generator = np.random.default_rng(classes)
        weights = generator.normal(size=(classes, pixels))
        return linear_net(weights, -weights.sum(1) / 2, (4, 4, 1))

    def test_graphs_do_not_grow_with_the_classes(self):
        attack = FAB(steps=10)
        sizes = [
            graph_size(attack, self.net(classes), classes) for classes in (11, 300)
        ]
        assert sizes[0] == sizes[1]

    def test_few_of_many_classes_lead_as_near_as_all(self, digits):
        # Hidden units of random weights, and many classes that only just differ.
        images = digits.x_test[:8]
        net = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(30),
            ]
        )
        labels = np.argmax(net(images), -1)
        few, more = (
            search(FAB(norm="l2", steps=10, candidates=each), net, images, labels)
            for each in (10, 29)
        )
        assert few.success.all()
        assert np.median(few.norms / more.norms) <= 1.05

    def test_are_chosen_again_where_each_step_begins(self):
        # At 0.5 class 1 is ahead of class 2, whose boundary at 0.75 is the nearer one.
        def model(x):
            value = x[:, 0, 0, 0]
            columns = [0.0 * value + 1.0, 0.5 * value + 0.5, 4.0 * value - 2.0]
            return tf.stack(columns, axis=1)

        image = np.full((1, 1, 1, 1), 0.5, "float32")
        found = search(FAB(norm="l2", steps=5, candidates=1), model, image, [0])
        assert 0.25 <= found.norms[0] < 0.26


class TestEpsilon:
    def split(self, trained_net, digits, **arguments):
        """Images, labels, and an epsilon that parts the norms FAB finds."""
        images, labels = digits.x_test[:24], digits.y_test[:24]
        attack = FAB(steps=13, **arguments)
        norms = search(attack, trained_net, images, labels).norms
        ordered = np.sort(norms)
        place = 8 + np.argmax(np.diff(ordered)[8:16])
        epsilon = float(ordered[place : place + 2].mean())
        return images, labels, attack.replace(epsilon=epsilon), norms <= epsilon

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("target_classes", [None, 2])
    def test_stop_early_succeeds_where_the_nearest_is_inside(
        self, norm, target_classes, trained_net, digits
    ):
        images, labels, attack, expected = self.split(
            trained_net, digits, norm=norm, target_classes=target_classes
        )
        assert 0 < expected.sum() < 24
        for stop_early in (False, True):
            result = attack.generate(
                trained_net,
                images,
                labels,
                seed=1,
                batch_size=8,
                verbose=0,
                stop_early=stop_early,
            )
            broken = np.argmax(trained_net(result), -1) != labels
            np.testing.assert_array_equal(broken, expected)
            norms = distance(result, images, norm)
            assert np.all(norms <= attack.epsilon * (1 + 1e-5))
            np.testing.assert_array_equal(result[~expected], images[~expected])

    def test_stop_early_does_less_work(self, trained_net, digits, monkeypatch):
        images, labels = digits.x_test[:32], digits.y_test[:32]
        attack = FAB(0.5, steps=40)
        arguments = {"batch_size": 8, "verbose": 0, "stop_early": True}
        calls, advance = [], CompiledAttack.advance
        monkeypatch.setattr(
            CompiledAttack,
            "advance",
            lambda *each: calls.append(1) or advance(*each),
        )
        result = attack.generate(trained_net, images, labels, **arguments)
        assert np.all(np.argmax(trained_net(result), -1) != labels)
        # Four batches of four segments to the end; one segment suffices.
        assert len(calls) <= 5

    def test_no_image_gets_more_steps_than_asked_for(self, trained_net, digits):
        images = tf.constant(digits.x_test[:3])
        labels, key = tf.constant(digits.y_test[:3]), make_key(0)
        attack, epsilon, run = FAB(steps=3), tf.constant(0.5), tf.zeros(3, tf.int32)
        compiled = CompiledAttack(attack, trained_net)
        state = compiled.start(images, labels, epsilon, key, run)
        started = {**state, "step": tf.constant([0.0, 1.0, 3.0])}
        moved = compiled.advance(started, epsilon, key, 3)
        np.testing.assert_array_equal(moved["step"], [3, 4, 6])
        for row, steps in enumerate((3, 2, 0)):
            wanted = compiled.advance(state, epsilon, key, steps)
            np.testing.assert_allclose(
                moved["iterate"][row], wanted["iterate"][row], atol=1e-5
            )

    def test_images_that_are_wrong_already_stay(self, trained_net, digits):
        images, labels = digits.x_test[:8], (digits.y_test[:8] + 1) % 3
        for stop_early in (False, True):
            result = FAB(0.3, steps=3).generate(
                trained_net, images, labels, verbose=0, stop_early=stop_early
            )
            np.testing.assert_array_equal(result, images)


class TestEverywhere:
    @pytest.mark.parametrize(
        ("norm", "arguments"),
        [
            # In the gate the contract compiles l2, and runs linf as a graph.
            pytest.param("linf", {"target_classes": 2}, marks=pytest.mark.nightly),
            pytest.param("l2", {"restarts": 2}, marks=pytest.mark.nightly),
            ("l1", {"restarts": 2}),
        ],
    )
    def test_same_in_eager_graph_and_xla(self, norm, arguments, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:8], digits.y_test[:8]))
        attack = FAB(norm=norm, steps=4, **arguments)
        craft = functools.partial(attack, trained_net, seed=1)
        eager = craft(images, labels)
        norms = distance(eager, images, norm)
        assert np.all(norms > 0)
        for compiled in graph_and_xla(craft, images, labels):
            found = compiled(images, labels)
            np.testing.assert_allclose(distance(found, images, norm), norms, rtol=1e-3)

    @pytest.mark.parametrize("norm", NORMS)
    def test_zero_gradients_and_corners(self, norm, images, labels):
        corners = np.concatenate([images[:3].round(), images[3:]])
        for arguments in ({}, {"target_classes": 2, "restarts": 2}):
            attack = FAB(norm=norm, steps=3, **arguments)
            result = attack(constant_net, corners, np.zeros(6, int), seed=1)
            np.testing.assert_array_equal(result, corners)

    def test_images_do_not_see_each_other(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        attack = FAB(norm="l2", steps=5)
        together = attack(trained_net, images, labels, seed=1)
        alone = attack(trained_net, images[:2], labels[:2], seed=1)
        np.testing.assert_allclose(together[:2], alone, atol=1e-4)

    def test_bfloat16_gradients_lead_as_near(self, trained_net, digits):
        images, labels = digits.x_test[:16], digits.y_test[:16]
        exact, rounded = (
            search(FAB(steps=20, precision=each), trained_net, images, labels)
            for each in ("float32", "bfloat16")
        )
        assert rounded.success.all()
        assert np.median(rounded.norms) <= 1.05 * np.median(exact.norms)

    def test_random_models_are_checked_on_fresh_draws(self, images):
        net = busy_net()
        attack = FAB(0.5, steps=3, target_classes=1, eot_samples=2)
        labels = attack.predict(net, images, seed=0)
        for stop_early in (False, True):
            one, two = (
                attack.generate(
                    net, images, labels, seed=3, verbose=0, stop_early=stop_early
                )
                for _ in range(2)
            )
            np.testing.assert_array_equal(one, two)
            assert np.any(one != images)

    def test_other_units(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        unit = search(FAB(0.3, steps=5), trained_net, images, labels)
        wide = search(
            FAB(76.5, steps=5, value_range=(0, 255)),
            lambda x: trained_net(x / 255),
            255 * images,
            labels,
        )
        np.testing.assert_array_equal(wide.success, unit.success)
        np.testing.assert_allclose(wide.norms, 255 * unit.norms, rtol=1e-3)


class TestArguments:
    def test_name(self):
        assert str(FAB()) == "FAB-100"
        assert str(FAB(steps=20, restarts=5)) == "FAB-20 x 5"

    @pytest.mark.parametrize(
        "name", ["steps", "restarts", "target_classes", "candidates"]
    )
    def test_counts_are_checked(self, name):
        with pytest.raises(ValueError, match=f"`FAB` expects `{name}`.*at least 1"):
            FAB(**{name: 0})

    def test_rejects_target_classes_of_a_targeted_attack(self):
        with pytest.raises(ValueError, match="`target_classes` to be None when"):
            FAB(target_classes=9, targeted=True)

    def test_stopping_early_needs_an_epsilon(self, net, images):
        with pytest.raises(ValueError, match="`stop_early` to be False without"):
            FAB().generate(net, images, verbose=0, stop_early=True)
