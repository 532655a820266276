import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in, make_key, uniform
from keras_advdef.layers._bulk_random import bulk_normal, bulk_uniform

# The keys are fixed, so the statistical tests either always pass or always fail; their
# tolerances are four standard errors, and p-values must exceed one in a thousand.
_LEAST_P = 1e-3
_COUNT = 400_000


def keys():
    """Keys as they come in practice: neighbours, folded, and of special bits."""
    base = make_key(7)
    made = [base, make_key(8), make_key(7 + 2**16), tf.constant([7, 1])]
    return [*made, *(fold_in(base, index) for index in range(4)), make_key(0)]


def _rows(draws):
    """Returns 64 bits made of each number and the two after it."""
    bits = (np.asarray(draws) * 2**24).astype(np.uint64)
    return bits[..., :-2] << 40 | bits[..., 1:-1] << 16 | bits[..., 2:] >> 8


class TestBulkUniform:
    @pytest.mark.parametrize("shape", [[1], [1000], [3, 5, 5, 2], []])
    def test_equal_to_the_bit_in_every_mode(self, shape, in_every_mode):
        def draw(key):
            return bulk_uniform(key, shape)

        eager, graph, compiled = in_every_mode(draw, make_key(11))
        assert eager.shape == tuple(shape)
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_array_equal(eager, compiled)

    @pytest.mark.parametrize("key", keys()[::2], ids=str)
    def test_distribution(self, key):
        draws = bulk_uniform(key, [_COUNT]).numpy()
        assert draws.dtype == np.float32
        assert draws.min() >= 0.0
        assert draws.max() < 1.0
        # Also the low bits are even: chi-square of top, middle and bottom 8 bits.
        bits = (draws.astype(np.float64) * 2**24).astype(np.int64)
        for shift in (16, 8, 0):
            seen = np.bincount((bits >> shift) & 255, minlength=256)
            assert scipy.stats.chisquare(seen).pvalue > _LEAST_P
        assert scipy.stats.kstest(draws, "uniform").pvalue > _LEAST_P

    def test_neighbouring_places_are_independent(self):
        draws = bulk_uniform(make_key(3), [_COUNT]).numpy()
        # Pairs and triples fill the square and the cube evenly.
        for size, cells in ((2, 32), (3, 10)):
            whole = draws[: _COUNT // size * size].reshape(-1, size)
            seen, _ = np.histogramdd(whole, bins=cells, range=[(0, 1)] * size)
            assert scipy.stats.chisquare(seen.ravel()).pvalue > _LEAST_P

    @pytest.mark.parametrize("lag", [1, 2, 3, 32, 96, 1024, 3072, 65536])
    def test_no_correlation_at_a_lag(self, lag):
        draws = bulk_uniform(make_key(3), [_COUNT]).numpy()
        correlation = np.corrcoef(draws[:-lag], draws[lag:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(_COUNT - lag)

    def test_keys_give_independent_streams(self):
        streams = [bulk_uniform(key, [20_000]).numpy() for key in keys()]
        for one, other in itertools.combinations(streams, 2):
            assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / np.sqrt(20_000)
            seen, *_ = np.histogram2d(one, other, bins=16, range=[(0, 1)] * 2)
            assert scipy.stats.chisquare(seen.ravel()).pvalue > _LEAST_P / 10
        # Nothing of Philox's own stream with the same key either.
        philox = uniform(keys()[0], [20_000]).numpy()
        assert abs(np.corrcoef(streams[0], philox)[0, 1]) < 4 / np.sqrt(20_000)

    def test_streams_share_no_stretch(self):
        # Were a stream another one moved along, most numbers would come again.
        first = bulk_uniform(make_key(7), [20_000]).numpy()
        for key in keys()[1:]:
            second = bulk_uniform(key, [20_000]).numpy()
            # Of 4e8 pairs on a grid of 2^24, 24 agree by chance.
            assert len(np.intersect1d(first, second)) < 60

    @pytest.mark.parametrize(
        "size", [2**13, pytest.param(32 * 32 * 32 * 3, marks=pytest.mark.nightly)]
    )
    def test_no_two_of_thousands_of_calls_overlap(self, size):
        # As a layer draws: one key for each call. 4000 windows of one sequence of 2^32
        # numbers, as streams of one stride are, would overlap in 31 pairs, and in 366
        # where each holds the numbers of 32 images of CIFAR.
        @tf.function
        def drawn(calls, size):
            return tf.map_fn(
                lambda call: bulk_uniform(fold_in(make_key(7), call), [size]),
                calls,
                fn_output_signature=tf.float32,
            )

        # Of three numbers in a row 64 bits: 1.6e12 pairs of rows agree by chance once
        # in 1e7 times. Where a window starts within another, its first row is found.
        starts = np.sort(_rows(drawn(tf.range(4000), 3))[:, 0])
        means, shared = [], 0
        for calls in np.split(np.arange(4000), 50):
            for window in drawn(tf.constant(calls), size).numpy():
                rows = _rows(window)
                places = np.searchsorted(starts, rows)
                shared += np.count_nonzero(starts[np.minimum(places, 3999)] == rows) - 1
                means.append(window.mean(dtype=np.float64))
        assert len(np.unique(starts)) == 4000
        assert shared == 0
        # The means of independent windows vary as much as theory has it, and know
        # nothing of the mean of the call before.
        scores = (np.array(means) - 0.5) * np.sqrt(12 * size)
        assert scipy.stats.kstest(scores, "norm").pvalue > _LEAST_P
        assert abs((scores**2).mean() - 1) < 4 * np.sqrt(2 / 4000)
        correlation = np.corrcoef(scores[:-1], scores[1:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(4000)

    def test_shape_of_scalar_tensors(self):
        traced = tf.function(
            lambda images: bulk_uniform(make_key(1), tf.unstack(tf.shape(images))),
            input_signature=[tf.TensorSpec((None, 4))],
        )
        expected = bulk_uniform(make_key(1), [3, 4])
        np.testing.assert_array_equal(traced(tf.zeros((3, 4))), expected)


class TestBulkNormal:
    def test_equal_in_every_mode(self, in_every_mode):
        def draw(key):
            return bulk_normal(key, [1001])

        eager, graph, compiled = in_every_mode(draw, make_key(11))
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_allclose(eager, compiled, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("key", keys()[::2], ids=str)
    def test_distribution(self, key):
        draws = bulk_normal(key, [_COUNT]).numpy().astype(np.float64)
        # Standard errors: 1 / sqrt(n), sqrt(2 / n), sqrt(15 / n) and sqrt(96 / n).
        for power, (mean, variance) in enumerate(
            [(0, 1), (1, 2), (0, 15), (3, 96)], start=1
        ):
            error = np.sqrt(variance / _COUNT)
            assert abs((draws**power).mean() - mean) < 4 * error
        assert scipy.stats.kstest(draws, "norm").pvalue > _LEAST_P

    def test_tails(self):
        draws = bulk_normal(make_key(5), [4_000_000]).numpy()
        for limit in (3.0, 4.0, 4.75):
            expected = len(draws) * 2 * scipy.stats.norm.sf(limit)
            seen = np.count_nonzero(np.abs(draws) > limit)
            assert abs(seen - expected) < 4 * np.sqrt(expected)

    def test_sorted_draws_are_the_quantiles(self):
        # The largest of n uniform ranks is off by about 1 / n; where the density is
        # not small that is far below the bound.
        draws = np.sort(bulk_normal(make_key(6), [1_000_000]).numpy())
        ranks = (np.arange(len(draws)) + 0.5) / len(draws)
        middle = (ranks > 0.01) & (ranks < 0.99)
        expected = scipy.stats.norm.ppf(ranks[middle])
        assert np.abs(draws[middle] - expected).max() < 0.015

    def test_neighbours_and_their_sizes_are_uncorrelated(self):
        draws = bulk_normal(make_key(7), [_COUNT]).numpy()
        for values in (draws, np.abs(draws)):
            correlation = np.corrcoef(values[:-1], values[1:])[0, 1]
            assert abs(correlation) < 4 / np.sqrt(_COUNT)
