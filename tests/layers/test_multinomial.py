import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.layers._multinomial import drawn_outcomes

_ROWS = 10_000
# Bound in standard errors for the largest deviation of 60 counts.
_ERRORS = 4.5


def drawn(weights, draws, rows=_ROWS, key=3):
    table = tf.tile(tf.constant([weights], tf.float32), [rows, 1])
    return drawn_outcomes(make_key(key), table, draws).numpy()


def weights_of(kind):
    generator = np.random.default_rng(0)
    if kind == "uniform":
        return np.ones(60)
    if kind == "one large":
        return np.concatenate([[50.0], np.ones(40), np.zeros(7)])
    return np.abs(generator.normal(size=50)) * (generator.uniform(size=50) < 0.6)


KINDS = ["uniform", "one large", "half normal"]


@pytest.mark.parametrize("draws", [1, 5, 50, 400])
@pytest.mark.parametrize("kind", KINDS)
def test_chance_to_come_up(kind, draws):
    weights = weights_of(kind)
    chance = -np.expm1(draws * np.log1p(-weights / weights.sum()))
    seen = drawn(weights, draws).mean(axis=0)
    error = np.sqrt(chance * (1 - chance) / _ROWS) + 1e-6
    assert (np.abs(seen - chance) < _ERRORS * error).all()
    assert not seen[weights == 0].any()


@pytest.mark.parametrize(("outcomes", "draws"), [(6, 4), (6, 40), (60, 60), (300, 30)])
def test_number_of_different_outcomes(outcomes, draws):
    # Occurrences are negatively correlated, so the number of different outcomes varies
    # less than for independent ones. NumPy's draws are independent of ours.
    generator = np.random.default_rng(1)
    weights = generator.uniform(0.2, 1.0, outcomes)
    expected = generator.multinomial(draws, weights / weights.sum(), size=_ROWS)
    expected = np.count_nonzero(expected, axis=1)
    seen = np.count_nonzero(drawn(weights, draws), axis=1)
    top = max(expected.max(), seen.max()) + 1
    table = [np.bincount(each, minlength=top) for each in (expected, seen)]
    table = np.array(table)[:, np.sum(table, axis=0) > 10]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    assert seen.max() <= min(outcomes, draws)


def test_one_draw_is_one_outcome():
    assert (drawn(weights_of("half normal"), 1).sum(axis=1) == 1).all()


def test_law_of_three_outcomes():
    # All subsets of three outcomes, by inclusion and exclusion.
    weights, draws = np.array([0.5, 0.3, 0.2]), 3
    seen = drawn(weights, draws, rows=50_000) @ [1, 2, 4]
    chances = np.zeros(8)
    for subset in range(1, 8):
        members = [index for index in range(3) if subset >> index & 1]
        for inner in range(1, 8):
            if inner & subset == inner:
                share = sum(weights[index] for index in range(3) if inner >> index & 1)
                sign = (-1) ** (len(members) - inner.bit_count())
                chances[subset] += sign * share**draws
    counts = np.bincount(seen, minlength=8)
    assert counts[0] == 0
    assert scipy.stats.chisquare(counts[1:], 50_000 * chances[1:]).pvalue > 1e-3


def test_rows_differ_and_zero_rows_stay_empty():
    weights = tf.constant([[1.0] * 30, [0.0] * 30, [1.0] * 30])
    first = drawn_outcomes(make_key(0), weights, 30).numpy()
    assert not first[1].any()
    assert (first[0] != first[2]).any()
    again = drawn_outcomes(make_key(0), weights, 30).numpy()
    np.testing.assert_array_equal(first, again)
    other = drawn_outcomes(fold_in(make_key(0), 1), weights, 30).numpy()
    assert (first != other).any()


def test_small_weights_beside_large_ones():
    # In float32 a cumulative sum would lose them.
    weights = np.concatenate([np.full(1000, 1e-6), [1e4]])
    seen = drawn(weights, 2_000_000, rows=50)
    chance = -np.expm1(2e6 * np.log1p(-1e-6 / weights.sum()))
    assert seen[:, -1].all()
    error = np.sqrt(chance / seen[:, :-1].size)
    assert abs(seen[:, :-1].mean() - chance) < 4 * error


def test_equal_in_every_mode(in_every_mode):
    weights = tf.constant(np.abs(np.random.default_rng(0).normal(size=(3, 200))))
    weights = tf.cast(weights, tf.float32)

    def draw(key):
        return drawn_outcomes(key, weights, 200)

    eager, graph, compiled = in_every_mode(draw, make_key(1))
    np.testing.assert_array_equal(eager, graph)
    # Rounding may move a draw to an adjacent outcome.
    assert np.mean(np.array(eager) != np.array(compiled)) < 0.01
