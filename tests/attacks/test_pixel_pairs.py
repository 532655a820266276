import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._pixel_pairs import best_pair
from tests.support.kernels import missing_kernels


def brute_force(first, second, allowed):
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
        expected = brute_force(*row)
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
    def test_equals_brute_force(self, kind, pixels):
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
        assert missing_kernels(best_pair, *arguments) == {}
        eager = best_pair(*arguments)
        for jit in (False, True):
            compiled = functools.partial(tf.function, jit_compile=jit)(best_pair)
            np.testing.assert_array_equal(eager, compiled(*arguments))
