import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import StochasticActivationPruning

CONTRACT = [{"fraction": 2.0}, {"fraction": 2.0, "sampling": "bernoulli"}]

SAMPLINGS = pytest.mark.parametrize("sampling", ["multinomial", "bernoulli"])


def activations(count=50, batch=1, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch, count))
    return np.maximum(values, 0.0).astype("float32")


def chances(row, fraction=1.0):
    shares = row.astype(np.float64) / row.sum()
    return -np.expm1(int(fraction * len(row)) * np.log1p(-shares))


def pruned_many(row, *, sampling, fraction=1.0, rows=20_000):
    layer = StochasticActivationPruning(fraction=fraction, sampling=sampling, seed=2)
    return layer(np.tile(row, (rows, 1))).numpy()


@SAMPLINGS
class TestBoth:
    @pytest.mark.parametrize("fraction", [0.5, 1.0, 2.0])
    def test_mean_is_the_input(self, sampling, fraction):
        row = activations()[0]
        seen = pruned_many(row, sampling=sampling, fraction=fraction)
        kept = chances(row, fraction)
        some = row > 0
        # One draw has the standard deviation h * sqrt((1 - kept) / kept).
        error = row[some] * np.sqrt((1 - kept[some]) / kept[some] / len(seen))
        assert (np.abs(seen.mean(axis=0)[some] - row[some]) < 4.5 * error).all()
        assert not seen[:, ~some].any()

    def test_kept_values_are_scaled_by_their_chance(self, sampling):
        row = activations()[0]
        seen = pruned_many(row, sampling=sampling, rows=50)
        expected = np.divide(row, chances(row), where=row > 0, out=np.zeros_like(row))
        expected = np.broadcast_to(expected, seen.shape)
        np.testing.assert_allclose(seen[seen > 0], expected[seen > 0], rtol=1e-5)

    @pytest.mark.parametrize(
        ("fraction", "share"), [(0.5, 0.539), (1.0, 0.719), (2.0, 0.849)]
    )
    def test_share_of_positive_units_that_stay(self, sampling, fraction, share):
        # Half of the units of this map are zero; the shares are those of the reference.
        maps = activations(4096, batch=20)
        layer = StochasticActivationPruning(
            fraction=fraction, sampling=sampling, seed=1
        )
        seen = layer(maps).numpy()
        assert np.mean(seen[maps > 0] > 0) == pytest.approx(share, abs=0.006)

    def test_negative_activations_count_by_size(self, sampling):
        row = activations()[0] - 0.3
        seen = pruned_many(row, sampling=sampling)
        assert set(np.sign(seen[:, 0])) <= {0.0, np.sign(row[0])}
        large = np.abs(row) > 0.5
        assert np.abs(seen.mean(axis=0) / row - 1)[large].max() < 0.05

    def test_zero_maps_and_their_gradient(self, sampling):
        maps = np.stack([np.zeros((4, 4, 3)), np.ones((4, 4, 3))]).astype("float32")
        maps = tf.constant(maps)
        layer = StochasticActivationPruning(sampling=sampling, seed=0)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            seen = layer(maps)
        gradient = tape.gradient(seen, maps).numpy()
        assert not seen[0].numpy().any()
        assert np.isfinite(seen).all()
        assert np.isfinite(gradient).all()
        assert seen[1].numpy().any()

    def test_gradient_is_that_of_a_constant_mask(self, sampling):
        maps = tf.constant(activations(60, batch=3) + 0.1)
        weights = np.random.default_rng(1).normal(size=maps.shape).astype("float32")
        layer = StochasticActivationPruning(sampling=sampling)
        with tf.GradientTape() as tape, draw_scope(make_key(3)):
            tape.watch(maps)
            seen = layer(maps)
            total = tf.reduce_sum(weights * seen)
        mask = seen.numpy() / maps.numpy()
        np.testing.assert_allclose(
            tape.gradient(total, maps), weights * mask, rtol=1e-5
        )

    def test_examples_are_independent_and_normalised_by_themselves(self, sampling):
        maps = np.tile(activations(2000), (2, 1))
        maps[1] *= 1000.0
        layer = StochasticActivationPruning(sampling=sampling, seed=0)
        seen = layer(maps).numpy() > 0
        assert (seen[0] != seen[1]).any()
        assert abs(int(seen[0].sum()) - int(seen[1].sum())) < 100

    @pytest.mark.parametrize("training", [True, False, None])
    def test_is_always_active(self, sampling, training):
        layer = StochasticActivationPruning(sampling=sampling)
        maps = activations(200)
        assert not np.array_equal(layer(maps, training=training), maps)

    def test_many_draws_keep_everything(self, sampling):
        maps = activations(100) + 0.5
        layer = StochasticActivationPruning(fraction=2000.0, sampling=sampling)
        np.testing.assert_allclose(layer(maps), maps, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(1, 33, 17, 1), (3, 5), (1, 1), (2, 3, 3, 3, 2)])
    def test_any_shape(self, sampling, shape):
        maps = np.abs(np.random.default_rng(0).normal(size=shape)).astype("float32")
        layer = StochasticActivationPruning(sampling=sampling, seed=0)
        seen = layer(maps)
        assert seen.shape == shape
        assert layer.compute_output_shape(shape) == shape
        # Each example keeps something; a single activation is always kept.
        if sampling == "multinomial":
            assert np.array(seen).reshape(shape[0], -1).any(axis=1).all()

    def test_half_precision(self, sampling):
        # The sum of 40 000 activations of 8 overflows float16.
        maps = np.full((1, 200, 200, 1), 8.0, "float16")
        layer = StochasticActivationPruning(
            sampling=sampling, dtype="mixed_float16", seed=0
        )
        seen = layer(maps).numpy()
        assert seen.dtype == np.float16
        assert np.isfinite(seen).all()
        assert np.mean(seen > 0) == pytest.approx(1 - np.exp(-1), abs=0.01)
        np.testing.assert_allclose(seen.max(), 8.0 / (1 - np.exp(-1)), rtol=2e-3)

    def test_tiny_shares_keep_their_chance(self, sampling):
        # 1 - (1 - p)^r in float32 would be 0 for p below 6e-8.
        row = np.concatenate([[1.0], np.full(999, 2e-8)]).astype("float32")
        seen = pruned_many(row, sampling=sampling, rows=4000)[:, 1:]
        expected = -np.expm1(1000 * np.log1p(-2e-8)) * seen.size
        count = np.count_nonzero(seen)
        assert abs(count - expected) < 4 * np.sqrt(expected)
        np.testing.assert_allclose(seen[seen > 0], 2e-8 / (expected / seen.size), 1e-3)


def test_multinomial_is_more_even_than_bernoulli():
    row = np.ones(60, "float32")
    spread = {
        sampling: np.count_nonzero(pruned_many(row, sampling=sampling), axis=1).std()
        for sampling in ("multinomial", "bernoulli")
    }
    share = 1 - (1 - 1 / 60) ** 60
    assert spread["bernoulli"] == pytest.approx(
        np.sqrt(60 * share * (1 - share)), rel=0.03
    )
    # n * e^-1 * (1 - 2 / e) for n draws of n equal outcomes.
    assert spread["multinomial"] == pytest.approx(
        np.sqrt(60 * np.exp(-1) * (1 - 2 * np.exp(-1))), rel=0.03
    )


def test_stays_on_in_predict():
    model = keras.Sequential([keras.Input((200,)), StochasticActivationPruning()])
    maps = activations(200, batch=2)
    one, other = (model.predict(maps, verbose=0) for _ in range(2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"fraction": 0.0}, "`fraction` to be a finite number above 0"),
        ({"fraction": -1.0}, "`fraction` to be a finite number above 0"),
        ({"sampling": "gamma"}, "`sampling` to be"),
    ],
)
def test_bad_input(arguments, rule):
    with pytest.raises(
        ValueError, match=f"`StochasticActivationPruning` expects {rule}"
    ) as caught:
        StochasticActivationPruning(**arguments)
    assert "\n" not in str(caught.value)
