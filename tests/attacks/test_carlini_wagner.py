import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.carlini_wagner import CarliniWagner, _watch
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.layers import RandomNoise
from tests.attacks.test_deep_fool import linear_case, zero_net
from tests.support.modes import graph_and_xla
from tests.support.nets import small_net

CONTRACT = [
    {
        "epsilon": 3.0,
        "steps": 20,
        "binary_search_steps": 2,
        "learning_rate": 0.1,
        "initial_constant": 1.0,
    }
]


def quick(**arguments):
    defaults = {
        "steps": 60,
        "binary_search_steps": 2,
        "learning_rate": 0.1,
        "initial_constant": 1.0,
    }
    return CarliniWagner(**{**defaults, **arguments})


def lead_of(net, images, labels):
    """How far the best other class is ahead, from the model itself."""
    logits = net(images).numpy()
    rows = np.arange(len(labels))
    own = logits[rows, labels]
    logits[rows, labels] = -np.inf
    return logits.max(-1) - own


class TestCarliniWagner:
    def test_comes_within_two_percent_of_the_exact_distance(self):
        net, images, labels, exact = linear_case()
        attack = quick(steps=100, binary_search_steps=4, learning_rate=0.02)
        found = attack.search(net, images, labels, verbose=0)
        assert found.success.all()
        assert np.all(found.norms >= exact["l2"] * (1 - 1e-5))
        assert np.all(found.norms <= exact["l2"] * 1.02)

    def test_is_nearer_than_deep_fool(self, trained_net, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        one, two = (
            attack.search(trained_net, images, labels, verbose=0)
            for attack in (quick(steps=100, binary_search_steps=3), DeepFool())
        )
        assert one.success.all()
        assert np.median(one.norms) < np.median(two.norms)
        for size in (1, 7):
            classes = trained_net.predict(one.images, size, verbose=0).argmax(-1)
            assert np.all(classes != labels)

    def test_reaches_targets(self, trained_net, digits):
        images, labels = digits.x_test[:9], digits.y_test[:9]
        for shift in (1, 2):
            targets = (labels + shift) % 3
            found = quick(targeted=True).search(
                trained_net, images, target_labels=targets, verbose=0
            )
            assert found.success.all()
            assert np.all(trained_net(found.images).numpy().argmax(-1) == targets)

    def test_confidence_is_a_lead_in_logits(self, trained_net, digits):
        images, labels = digits.x_test[:9], digits.y_test[:9]
        medians = []
        for confidence in (0.0, 0.5, 1.0):
            attack = quick(confidence=confidence, binary_search_steps=3)
            found = attack.search(trained_net, images, labels, verbose=0)
            assert found.success.all()
            assert np.all(lead_of(trained_net, found.images, labels) > confidence)
            medians.append(np.median(found.norms))
        assert medians[0] < medians[1] < medians[2]

    def test_constant_grows_until_the_first_success(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        searches = {}
        for count in (1, 4):
            attack = quick(initial_constant=1e-3, binary_search_steps=count)
            searches[count] = attack.search(trained_net, images, labels, verbose=0)
        assert not searches[1].success.any()
        assert searches[4].success.all()

    def test_more_searches_never_lead_further_away(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        norms = [
            quick(binary_search_steps=count, initial_constant=10.0)
            .search(trained_net, images, labels, verbose=0)
            .norms
            for count in (1, 2, 4)
        ]
        assert np.all(norms[1] <= norms[0] + 1e-6)
        assert np.all(norms[2] <= norms[1] + 1e-6)
        assert np.median(norms[2]) < np.median(norms[0])

    def test_epsilon_bounds_what_counts(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        norms = quick().search(trained_net, images, labels, verbose=0).norms
        epsilon = float(np.median(norms))
        found = quick(epsilon=epsilon).search(trained_net, images, labels, verbose=0)
        np.testing.assert_array_equal(found.success, norms <= epsilon)
        assert found.success.sum() == 3
        np.testing.assert_array_equal(
            found.images[~found.success], images[~found.success]
        )

    def test_images_that_are_wrong_already_come_back(self, trained_net, digits):
        images, labels = digits.x_test[:6], (digits.y_test[:6] + 1) % 3
        found = quick(steps=5).search(trained_net, images, labels, verbose=0)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.norms, np.zeros(6))

    def test_equal_logits_are_left_alone(self, images):
        result = quick(steps=20)(zero_net(), images, [0] * 6, seed=1)
        np.testing.assert_array_equal(result, images)

    def test_stays_in_the_range_at_its_corners(self, trained_net, digits):
        images = digits.x_test[:6].round()
        labels = trained_net(images).numpy().argmax(-1)
        # There the gradient of tanh is next to zero, and Adam takes a while to leave.
        attack = quick(initial_constant=10.0, steps=100)
        found = attack.search(trained_net, images, labels, verbose=0)
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert found.success.all()

    def test_stands_still_without_progress(self, images):
        calls = []

        def counted(x):
            calls.append(0)
            return 0.0 * tf.reduce_sum(x, [1, 2]) + tf.zeros((1, 3))

        quick(steps=50, binary_search_steps=3)(counted, images, [0] * 6)
        # The base looks twice. A period of 5 steps, one step of which is the first,
        # is compared with the next: no search step goes on to its end.
        assert len(calls) == 2 + 3 * 11

    def test_watch_compares_periods(self):
        infinite, zeros = tf.fill(3, np.inf), tf.zeros(3)
        state = {
            "active": tf.ones(3, tf.bool),
            "lowest": infinite,
            "lowest_before": infinite,
            "farthest": zeros,
            "farthest_before": zeros,
        }
        # Lowest losses of steps 1-2: 4, of 3-4: 3, 4 and 4, of 5-6: 4; step 0 does
        # not count. The third image's norm doubles once, which is progress, too.
        losses = [[1] * 3, [5] * 3, [4] * 3, [3, 4, 4], [4] * 3, [4] * 3, [4] * 3]
        norms = [[9] * 3, [1] * 3, [1] * 3, [1, 1, 1], [1, 1, 3], [1, 1, 4], [1] * 3]
        history = []
        for index, pair in enumerate(zip(losses, norms, strict=True)):
            seen = [tf.constant(each, tf.float32) for each in pair]
            state = _watch(state, seen, tf.constant(index), 2)
            history.append(state["active"].numpy().tolist())
        second = [[True, False, True]] * 2
        assert history == [[True] * 3] * 4 + second + [[False] * 3]

    def test_is_traced_once_for_all_searches(self, trained_net, digits):
        images, labels = digits.x_test[:4], digits.y_test[:4]
        counts = []
        for searches in (1, 9):
            calls = []

            def counted(x, calls=calls):
                calls.append(0)
                return trained_net(x)

            attack = quick(binary_search_steps=searches)
            tf.function(
                functools.partial(attack, counted, seed=1), autograph=False
            ).get_concrete_function(tf.constant(images), tf.constant(labels))
            counts.append(len(calls))
        assert counts == [3, 3]

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    def test_is_the_same_compiled(self, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:20], digits.y_test[:20]))
        craft = functools.partial(quick(steps=20), trained_net, seed=1)
        eager = craft(images, labels)
        for compiled in graph_and_xla(craft, images, labels):
            result = compiled(images, labels)
            assert np.mean(np.abs(result - eager) < 1e-3) > 0.98

    def test_images_do_not_depend_on_each_other(self, trained_net, digits):
        images, labels = digits.x_test[:6], digits.y_test[:6]
        whole = quick(steps=20)(trained_net, images, labels)
        part = quick(steps=20)(trained_net, images[:2], labels[:2])
        assert np.abs(part - images[:2]).max() > 0.05
        np.testing.assert_allclose(whole[:2], part, atol=1e-3)

    def test_averages_over_draws_of_a_random_model(self, trained_net, digits):
        noisy = keras.Sequential(
            [keras.Input((8, 8, 1)), RandomNoise(0.1), trained_net]
        )
        images, labels = digits.x_test[:20], digits.y_test[:20]
        leads = {}
        for samples in (1, 6):
            attack = quick(steps=20, eot_samples=samples, confidence=0.5)
            result, again = (
                attack.generate(noisy, images, labels, seed=1, verbose=0)
                for _ in range(2)
            )
            np.testing.assert_array_equal(result, again)
            leads[samples] = np.mean(lead_of(trained_net, result, labels))
        # Luck of one draw does not pass for a success.
        assert leads[6] > leads[1]

    def test_bfloat16_ends_behind_the_exact_boundary(self, trained_net, digits):
        images, labels = digits.x_test[:20], digits.y_test[:20]
        norms = []
        for precision in ("float32", "bfloat16"):
            # Long enough to converge: else each processor ends somewhere else.
            attack = quick(
                precision=precision,
                steps=120,
                binary_search_steps=3,
                learning_rate=0.05,
            )
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
        result = quick(steps=10)(net, images, labels)
        assert np.isfinite(result).all()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("steps", 0),
            ("binary_search_steps", 0),
            ("learning_rate", 0.0),
            ("initial_constant", 0.0),
            ("confidence", -1.0),
        ],
    )
    def test_rejects_what_leads_nowhere(self, name, value):
        with pytest.raises(ValueError, match=f"`CarliniWagner` expects `{name}`"):
            CarliniWagner(**{name: value})
