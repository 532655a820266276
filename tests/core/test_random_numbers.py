import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_advdef.core.random_numbers import (
    fold_in,
    integers,
    make_key,
    normal,
    philox,
    uniform,
)

# The keys are fixed, so the statistical tests either always pass or always fail; their
# tolerances are four standard errors, and p-values must exceed one in a thousand.
_LEAST_P = 1e-3


class TestMakeKey:
    def test_from_an_integer(self):
        assert make_key(3).numpy().tolist() == [3, 0]
        assert make_key(2**31 - 1).numpy().tolist() == [2**31 - 1, 0]

    def test_a_key_is_itself(self):
        key = tf.constant([3, -(2**62)], tf.int64)
        assert make_key(key).numpy().tolist() == [3, -(2**62)]
        assert make_key(tf.constant([3, 4])).dtype == tf.int64

    @pytest.mark.parametrize("seed", [-1, 2**31, 1.5, True, "3", [3, 4]])
    def test_rejects(self, seed):
        rule = r"`make_key` expects `seed` to be an integer in \[0, 2147483647\]"
        with pytest.raises(ValueError, match=rule):
            make_key(seed)

    def test_rejects_a_tensor_of_another_shape(self):
        traced = tf.function(make_key)
        with pytest.raises(ValueError, match=r"Shapes are \[2\] and \[3\]"):
            traced.get_concrete_function(tf.TensorSpec((3,), tf.int32))

    def test_without_seed_it_is_fresh_even_in_a_graph(self):
        traced = tf.function(make_key)
        keys = [tuple(make() for make in (make_key, traced)) for _ in range(3)]
        assert len({tuple(key.numpy()) for pair in keys for key in pair}) == 6

    def test_without_seed_it_follows_set_random_seed(self):
        keys = []
        for _ in range(2):
            keras.utils.set_random_seed(4)
            keys.append(make_key().numpy().tolist())
        assert keys[0] == keys[1]


class TestFoldIn:
    def test_other_keys_for_other_numbers(self):
        keys = {tuple(fold_in(make_key(3), data).numpy()) for data in range(200)}
        assert len(keys) == 200

    @pytest.mark.parametrize(
        "count", [2**13, pytest.param(10**6, marks=pytest.mark.nightly)]
    )
    def test_no_two_of_a_million_keys_are_alike(self, count):
        @tf.function
        def folded(data):
            return tf.map_fn(
                lambda each: fold_in(make_key(3), each),
                data,
                fn_output_signature=tf.int64,
            )

        keys = folded(tf.range(count, dtype=tf.int64)).numpy()
        assert len(np.unique(keys, axis=0)) == count
        # As many 32-bit words collide as in the birthday problem, within five sigma.
        alike = count**2 / 2**33
        for word in keys.view(np.uint32).T:
            assert abs(count - len(np.unique(word)) - alike) < 5 * np.sqrt(alike) + 1
        # Each bit is fair and independent of all others, of its key and of the next.
        bits = np.unpackbits(keys.view(np.uint8), axis=1) * np.float32(2) - 1
        assert np.abs(bits.mean(axis=0)).max() < 5 / np.sqrt(count)
        pairs = bits.T @ bits / count - np.eye(128)
        neighbours = bits[:-1].T @ bits[1:] / count
        assert np.abs([pairs, neighbours]).max() < 5.5 / np.sqrt(count)

    def test_equal_in_every_mode(self, in_every_mode):
        data = tf.constant(2**40 + 5, tf.int64)
        eager, graph, compiled = in_every_mode(fold_in, make_key(3), data)
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_array_equal(eager, compiled)

    def test_is_a_block_of_philox_that_no_draw_takes(self):
        key = tf.constant([3, 4], tf.int64)
        generator = tf.random.Generator.from_state([5 - 2**63, 4, 3], alg="philox")
        expected = generator.uniform_full_int([2], tf.int64)
        np.testing.assert_array_equal(fold_in(key, 5), expected)

    def test_every_bit_of_a_key_counts(self):
        # Flipping one of 128 bits flips about half of all; no bit always flips.
        key = tf.constant([3, 4], tf.int64)
        flips = np.eye(128, dtype=np.uint8)
        words = np.packbits(flips, axis=1).view(np.int64)
        keys = np.stack([fold_in(key ^ word, 1) for word in words])
        flipped = np.unpackbits((keys ^ fold_in(key, 1).numpy()).view(np.uint8), axis=1)
        assert flipped.shape == (128, 128)
        # Standard deviations: 5.7 of a single row or column, 0.5 of their mean.
        for axis in (0, 1):
            assert 32 < flipped.sum(axis).min() <= flipped.sum(axis).max() < 96
        assert abs(flipped.sum(1).mean() - 64) < 2

    def test_order_matters(self):
        one = fold_in(fold_in(make_key(3), 1), 2)
        other = fold_in(fold_in(make_key(3), 2), 1)
        assert one.numpy().tolist() != other.numpy().tolist()


class TestPhilox:
    @pytest.mark.parametrize("dtype", [tf.int32, tf.uint32, tf.int64, tf.uint64])
    def test_is_the_stream_of_tensorflows_generator(self, dtype, in_every_mode):
        # The low word of the counter carries over into the high one.
        state = tf.constant([-3, 7, -5], tf.int64)
        generator = tf.random.Generator.from_state(state, alg="philox")
        expected = generator.uniform_full_int([33], dtype)
        for found in in_every_mode(
            lambda words: philox(words[2:], words[:2], [33], dtype), state
        ):
            np.testing.assert_array_equal(found, expected)


class TestUniform:
    @pytest.mark.parametrize("shape", [[1], [7], [1000], [3, 5, 5, 2]])
    def test_equal_to_the_bit_in_every_mode(self, in_every_mode, shape):
        def draw(key):
            return uniform(key, shape)

        eager, graph, compiled = in_every_mode(draw, make_key(11))
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_array_equal(eager, compiled)

    def test_is_the_upper_24_bits(self):
        key = make_key(5)
        generator = tf.random.Generator.from_state([0, 0, 5], alg="philox")
        bits = generator.uniform_full_int([1000], tf.uint32)
        expected = (bits.numpy() // 2**8) / 2**24
        np.testing.assert_array_equal(uniform(key, [1000]), expected)

    def test_distribution(self):
        draws = uniform(make_key(7), [200_000]).numpy()
        assert draws.dtype == np.float32
        assert 0.0 <= draws.min() < 1e-4
        assert 1 - 1e-4 < draws.max() < 1.0
        # The standard error of the mean is sqrt(1 / 12 / 200000) = 0.00065.
        assert abs(draws.mean() - 0.5) < 4 * 0.00065
        assert scipy.stats.kstest(draws, "uniform").pvalue > _LEAST_P

    def test_keys_give_independent_streams(self):
        # Of independent streams the correlation has the standard error 1 / sqrt(n).
        key = make_key(7)
        streams = [make_key(8), fold_in(key, 0), fold_in(key, 1)]
        first = uniform(key, [20_000]).numpy()
        for other in streams:
            second = uniform(other, [20_000]).numpy()
            assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(20_000)

    def test_shape_of_scalar_tensors(self):
        images = tf.zeros((3, 4))
        traced = tf.function(
            lambda images: uniform(make_key(1), tf.unstack(tf.shape(images))),
            input_signature=[tf.TensorSpec((None, 4))],
        )
        np.testing.assert_array_equal(traced(images), uniform(make_key(1), [3, 4]))


class TestNormal:
    def test_equal_in_every_mode(self, in_every_mode):
        def draw(key):
            return normal(key, [1001])

        eager, graph, compiled = in_every_mode(draw, make_key(11))
        np.testing.assert_allclose(eager, graph, rtol=0, atol=1e-6)
        np.testing.assert_allclose(eager, compiled, rtol=0, atol=2e-6)

    def test_is_box_and_muller_in_float64(self):
        key = make_key(5)
        first, second = uniform(key, [2, 1000]).numpy().astype(np.float64)
        radius = np.sqrt(-2 * np.log(first + 2.0**-25))
        expected = radius * np.cos(2 * np.pi * second)
        np.testing.assert_allclose(normal(key, [1000]), expected, rtol=0, atol=2e-6)

    def test_distribution(self):
        count = 200_000
        draws = normal(make_key(7), [count]).numpy().astype(np.float64)
        # Standard errors: of the mean 1 / sqrt(n); of the variance sqrt(2 / n); of
        # the fourth moment sqrt((105 - 9) / n), for E x^8 = 105 and E x^4 = 3.
        assert abs(draws.mean()) < 4 * np.sqrt(1 / count)
        assert abs((draws**2).mean() - 1) < 4 * np.sqrt(2 / count)
        assert abs((draws**4).mean() - 3) < 4 * np.sqrt(96 / count)
        assert scipy.stats.kstest(draws, "norm").pvalue > _LEAST_P

    def test_neighbours_are_uncorrelated(self):
        draws = normal(make_key(7), [20_000]).numpy()
        correlation = np.corrcoef(draws[:-1], draws[1:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(20_000)


class TestIntegers:
    @pytest.mark.parametrize("count", [1, 2, 7, 256])
    def test_uniform_from_end_to_end(self, count):
        draws = integers(make_key(9), [70_000], count).numpy()
        values, seen = np.unique(draws, return_counts=True)
        assert values.tolist() == list(range(count))
        if count > 1:
            assert scipy.stats.chisquare(seen).pvalue > _LEAST_P

    def test_count_of_each_image(self):
        counts = tf.constant([1.0, 2.0, 5.0])
        draws = integers(make_key(9), [2000, 3], counts).numpy()
        assert draws.max(axis=0).tolist() == [0, 1, 4]
        assert draws.min(axis=0).tolist() == [0, 0, 0]

    @pytest.mark.parametrize("count", [3, 5, 2**23 - 1, 2**23 + 1, 2**24 - 1])
    def test_never_reaches_the_count(self, count):
        # The largest draw, 1 - 2^-24, must not be rounded up either.
        largest = np.float32(1 - 2.0**-24) * np.float32(count)
        assert np.floor(largest) == count - 1

    def test_equal_to_the_bit_in_every_mode(self, in_every_mode):
        def draw(key):
            return integers(key, [1000], 33.0)

        eager, graph, compiled = in_every_mode(draw, make_key(11))
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_array_equal(eager, compiled)
