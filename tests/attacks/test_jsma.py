import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.jsma import JSMA, best_pair
from tests.attacks.test_deep_fool import linear_case, zero_net
from tests.support.modes import graph_and_xla
from tests.support.nets import linear_net, small_net

CONTRACT = [{"epsilon": 40, "theta": 1.0, "gamma": 0.5}]


def brute_force(weights, bias, image, target, *, theta, pairs):
    """JSMA on a linear model in plain loops, towards a target; in float64."""
    image, used = image.astype(float).copy(), set()
    rise, fall = weights[target], weights.sum(0) - weights[target]
    for _ in range(pairs):
        if (weights @ image + bias).argmax() == target:
            break
        free = [p for p in range(len(image)) if p not in used and image[p] < 1]
        scores = {}
        for p, q in itertools.combinations(free, 2):
            alpha, beta = rise[p] + rise[q], fall[p] + fall[q]
            if alpha > 0 > beta:
                scores[p, q] = -alpha * beta
        if not scores:
            break
        pair = max(scores, key=scores.get)
        used |= set(pair)
        image[list(pair)] = np.minimum(image[list(pair)] + theta, 1)
    return image


def linear_data(pixels=16):
    generator = np.random.default_rng(2)
    weights, bias = generator.normal(size=(4, pixels)), 0.1 * generator.normal(size=4)
    weights[0] += 0.2
    images = generator.uniform(0.1, 0.9, (8, pixels, 1, 1)).astype("float32")
    images[:, 1] = 1.0
    return linear_net(weights, bias, (pixels, 1, 1)), weights, bias, images


class TestJSMA:
    @pytest.mark.parametrize("theta", [1.0, 0.3])
    def test_equals_brute_force_on_a_linear_model(self, theta):
        net, weights, bias, images = linear_data()
        labels = net(images).numpy().argmax(-1)
        targets = (labels + 1) % 4
        attack = JSMA(theta=theta, gamma=1.0, targeted=True)
        found = attack.search(net, images, target_labels=targets, verbose=0)
        steps = []
        for row, (image, target) in enumerate(zip(images, targets, strict=True)):
            expected = brute_force(
                weights, bias, image.ravel(), target, theta=theta, pairs=8
            )
            reached = (weights @ expected + bias).argmax() == target
            assert found.success[row] == reached
            if reached:
                np.testing.assert_allclose(
                    found.images[row].ravel(), expected, atol=1e-6
                )
                assert found.norms[row] == np.sum(expected != image.ravel())
            steps.append(found.norms[row] / 2)
        # The case holds images of one pair and of several.
        assert np.ptp([each for each in steps if np.isfinite(each)]) >= 1

    def test_untargeted_aims_at_the_most_likely_wrong_class(self):
        net, _, _, images = linear_data()
        logits = net(images).numpy()
        second = logits.argsort(-1)[:, -2]
        attack = functools.partial(JSMA, gamma=1.0)
        one = attack().search(net, images, verbose=0)
        two = attack(targeted=True).search(net, images, target_labels=second, verbose=0)
        assert one.success.any()
        # The path is the same; leaving the label may take fewer steps.
        assert np.all(one.norms <= two.norms)
        same = one.success & (one.norms == two.norms)
        assert same.any()
        np.testing.assert_array_equal(one.images[same], two.images[same])

    @pytest.mark.parametrize("gamma", [0.13, 0.25, 1.0])
    def test_gamma_is_the_share_of_values(self, gamma):
        net, _, _, images = linear_data()
        attack = JSMA(theta=0.05, gamma=gamma)
        candidates = attack.look_for(
            attack.logits_function(net),
            tf.constant(images),
            net(images).numpy().argmax(-1),
            tf.constant(np.inf),
            tf.constant([0, 0]),
        )
        changed = np.sum(candidates != images, axis=(1, 2, 3))
        # Whole pairs of the 16 values.
        assert changed.max() <= 2 * (int(16 * gamma) // 2)
        assert changed.max() >= min(2 * (int(16 * gamma) // 2), 4)
        rises = (candidates - images).numpy()[candidates != images]
        np.testing.assert_allclose(rises, 0.05, rtol=1e-5)

    def test_epsilon_is_a_number_of_values_in_any_range(self):
        net, _, _, images = linear_data()
        free = JSMA(gamma=1.0).search(net, images, verbose=0)
        epsilon = float(np.sort(free.norms)[2])
        assert epsilon < np.max(free.norms[np.isfinite(free.norms)])
        for low, high in ((0, 1), (0, 255), (-1, 1)):
            span = high - low
            model = keras.Sequential(
                [
                    keras.Input(images.shape[1:]),
                    keras.layers.Rescaling(1 / span, -low / span),
                    net,
                ]
            )
            bounded = JSMA(
                epsilon, theta=float(span), gamma=1.0, value_range=(low, high)
            )
            clean = (images * span + low).astype("float32")
            found = bounded.search(model, clean, verbose=0)
            np.testing.assert_array_equal(found.success, free.norms <= epsilon)
            np.testing.assert_array_equal(
                found.norms[found.success], free.norms[found.success]
            )
            # What was not chosen came through the other range to the bit.
            called = bounded(model, clean)
            np.testing.assert_array_equal(called, found.images)
            assert np.sum(called != clean, axis=(1, 2, 3)).max() <= epsilon

    def test_breaks_digits(self, trained_net, digits):
        images, labels = digits.x_test[:20], digits.y_test[:20]
        found = JSMA(gamma=0.5).search(trained_net, images, labels, verbose=0)
        assert found.success.mean() > 0.5
        classes = trained_net.predict(found.images, 7, verbose=0).argmax(-1)
        assert np.all(classes[found.success] != labels[found.success])
        assert found.norms[found.success].max() <= 32
        assert found.images.max() <= 1

    def test_reaches_targets(self, trained_net, digits):
        images, labels = digits.x_test[:20], digits.y_test[:20]
        targets = (labels + 1) % 3
        found = JSMA(gamma=0.5, targeted=True).search(
            trained_net, images, target_labels=targets, verbose=0
        )
        assert found.success.mean() > 0.3
        classes = trained_net(found.images).numpy().argmax(-1)
        np.testing.assert_array_equal(classes == targets, found.success)

    def test_images_that_are_wrong_already_come_back(self, trained_net, digits):
        images, labels = digits.x_test[:6], (digits.y_test[:6] + 1) % 3
        found = JSMA().search(trained_net, images, labels, verbose=0)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.norms, np.zeros(6))

    def test_equal_logits_are_left_alone(self, images):
        np.testing.assert_array_equal(
            JSMA(gamma=1.0)(zero_net(), images, [0] * 6), images
        )

    def test_white_images_have_nothing_to_raise(self):
        net, images, _, _ = linear_case()
        white = np.ones_like(images)
        np.testing.assert_array_equal(JSMA(gamma=1.0)(net, white), white)

    def test_stops_when_all_are_done(self):
        net, _, _, images = linear_data()
        calls = []

        def counted(x):
            calls.append(0)
            return net(x)

        labels = net(images).numpy().argmax(-1)
        norms = JSMA(gamma=1.0).search(net, images[:1], labels[:1], verbose=0).norms
        assert norms[0] < 16
        JSMA(gamma=1.0)(counted, images[:1], labels[:1])
        # The base looks twice, then the target, each pair, and the look that ends it.
        assert len(calls) == 4 + norms[0] / 2

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    def test_is_the_same_compiled(self, trained_net, digits):
        images, labels = map(tf.constant, (digits.x_test[:70], digits.y_test[:70]))
        craft = functools.partial(JSMA(gamma=0.3), trained_net, seed=1)
        eager = craft(images, labels)
        for compiled in graph_and_xla(craft, images, labels):
            result = compiled(images, labels)
            same = np.all(np.abs(result - eager) < 1e-6, axis=(1, 2, 3))
            assert same.mean() > 0.9

    def test_images_do_not_depend_on_each_other(self, trained_net, digits):
        images, labels = digits.x_test[:10], digits.y_test[:10]
        attack = JSMA(gamma=0.5)
        whole = attack(trained_net, images, labels)
        part = attack(trained_net, images[:5], labels[:5])
        assert np.any(part != images[:5])
        np.testing.assert_array_equal(whole[:5], part)

    def test_other_precisions_work(self, trained_net, digits):
        images, labels = digits.x_test[:10], digits.y_test[:10]
        found = JSMA(gamma=0.5, precision="bfloat16").search(
            trained_net, images, labels, verbose=0
        )
        assert found.success.any()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        assert np.isfinite(JSMA()(net, images, labels)).all()

    @pytest.mark.parametrize(
        ("name", "value"), [("theta", 0.0), ("gamma", 0.0), ("gamma", 1.1)]
    )
    def test_rejects_what_changes_nothing(self, name, value):
        with pytest.raises(ValueError, match=f"`JSMA` expects `{name}`"):
            JSMA(**{name: value})


def best_product(first, second, allowed):
    """The best product over all pairs of one row, in float64; 0 if there is none."""
    best = 0.0
    for p, q in itertools.combinations(np.flatnonzero(allowed), 2):
        sums = float(first[p]) + first[q], float(second[p]) + second[q]
        if min(sums) > 0:
            best = max(best, sums[0] * sums[1])
    return best


def check_best(first, second, allowed):
    first, second = np.asarray(first, "float32"), np.asarray(second, "float32")
    pairs = best_pair(*map(tf.constant, (first, second, allowed))).numpy()
    for pair, *row in zip(pairs, first, second, allowed, strict=True):
        expected = best_product(*row)
        if expected == 0:
            assert not pair.any()
            continue
        assert pair.sum() == 2
        assert row[2][pair].all()
        product = row[0][pair].sum(dtype=float) * row[1][pair].sum(dtype=float)
        assert product == pytest.approx(expected, rel=1e-5)


def draws(kind, pixels, rows=4):
    generator = np.random.default_rng(pixels)
    first = generator.normal(size=(rows, pixels))
    second = {
        "independent": generator.normal(size=first.shape),
        "alike": first + 0.1 * generator.normal(size=first.shape),
        # No pixel surpasses another: all of them are compared, in several tiles.
        "opposed": 1.0 - first + 1e-3 * generator.normal(size=first.shape),
        "rounded": generator.normal(size=first.shape).round(),
    }[kind]
    return first.round() if kind == "rounded" else first, second


class TestBestPair:
    @pytest.mark.parametrize("pixels", [1, 2, 3, 64, 65, 150])
    @pytest.mark.parametrize("kind", ["independent", "alike", "opposed", "rounded"])
    def test_equals_best_product(self, kind, pixels):
        first, second = draws(kind, pixels)
        check_best(first, second, np.ones(first.shape, bool))

    @pytest.mark.parametrize("share", [0.5, 0.03])
    def test_takes_allowed_pixels_only(self, share):
        for kind in ("alike", "opposed"):
            first, second = draws(kind, 100, rows=6)
            check_best(
                first, second, np.random.default_rng(1).random(first.shape) < share
            )

    def test_a_pixel_may_pay_for_the_other(self):
        # Alone neither helps in both; together (2, 2) beats twice the third (1, 1).
        first, second = [[3.0, -1.0, 0.5, 0.5]], [[-1.0, 3.0, 0.5, 0.5]]
        pair = best_pair(
            tf.constant(first), tf.constant(second), tf.ones((1, 4), tf.bool)
        )
        np.testing.assert_array_equal(pair, [[True, True, False, False]])

    def test_finds_nothing_where_nothing_helps(self):
        allowed = tf.ones((1, 5), tf.bool)
        for value in (0.0, -1.0):
            values = tf.fill((1, 5), value)
            assert not best_pair(values, tf.ones((1, 5)), allowed).numpy().any()
            assert not best_pair(tf.ones((1, 5)), values, allowed).numpy().any()

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_does_not_depend_on_the_scale(self, scale):
        first, second = map(tf.constant, draws("independent", 50))
        first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
        allowed = tf.ones_like(first, tf.bool)
        np.testing.assert_array_equal(
            best_pair(first * scale, second * scale, allowed),
            best_pair(first, second, allowed),
        )

    def test_rows_do_not_depend_on_each_other(self):
        easy, hard = (
            np.float32(draws(kind, 150, rows=1)) for kind in ("rounded", "opposed")
        )
        both = map(tf.constant, np.concatenate([easy, hard], axis=1))
        alone = map(tf.constant, easy)
        pairs = best_pair(*both, tf.ones((2, 150), tf.bool))
        np.testing.assert_array_equal(
            pairs[:1], best_pair(*alone, tf.ones((1, 150), tf.bool))
        )

    def test_is_the_same_compiled(self):
        first, second = (
            tf.constant(each, tf.float32) for each in draws("opposed", 150)
        )
        arguments = first, second, tf.ones_like(first, tf.bool)
        eager = best_pair(*arguments)
        for compiled in graph_and_xla(best_pair, *arguments):
            np.testing.assert_array_equal(eager, compiled(*arguments))
