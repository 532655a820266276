import keras
import numpy as np
import pytest
from scipy import stats

from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import draw_scope, scope_key
from keras_advdef.layers import RandomNoise

CONTRACT = [{"stddev": 0.1}, {"stddev": 0.1, "generator": "philox"}]


class TestRandomNoise:
    @pytest.mark.parametrize("generator", ["hash", "philox"])
    def test_is_normal_with_the_given_deviation(self, generator):
        layer = RandomNoise(0.3, seed=1, generator=generator)
        noise = layer(np.zeros((50, 2000))).numpy().ravel()
        # The deviation of 1e5 draws is within 4 standard errors, 0.3 * 4 / sqrt(2e5).
        assert np.std(noise) == pytest.approx(0.3, abs=0.003)
        assert stats.kstest(noise / 0.3, "norm").pvalue > 1e-3

    @pytest.mark.parametrize("training", [True, False, None])
    def test_is_always_active(self, training):
        assert np.any(RandomNoise(0.1)(np.zeros((2, 3)), training=training) != 0)

    def test_is_never_clipped(self):
        assert np.max(RandomNoise(0.1, seed=0)(np.ones((1, 100)))) > 1.0

    def test_philox_is_the_reference(self):
        key = make_key(4)
        with draw_scope(key):
            seen = RandomNoise(0.5, generator="philox")(np.zeros((2, 3), "float32"))
        with draw_scope(key):
            wanted = 0.5 * normal(scope_key(), [2, 3])
        np.testing.assert_array_equal(seen, wanted)

    def test_noise_of_layers_keys_and_places_is_unrelated(self):
        images = np.zeros((4, 5000), "float32")
        layer, other = RandomNoise(1.0, seed=1), RandomNoise(1.0, seed=2)
        draws = [layer(images), layer(images), other(images), other(images)]
        rows = np.concatenate([np.array(each) for each in draws])
        correlations = np.corrcoef(rows)[np.triu_indices(len(rows), k=1)]
        # The standard error is 1 / sqrt(5000); the largest of 120 of them.
        assert np.abs(correlations).max() < 4.5 / np.sqrt(5000)

    def test_zero_deviation_is_the_identity(self, images):
        np.testing.assert_array_equal(RandomNoise(0.0)(images), images)

    @pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5, 6)])
    def test_any_rank(self, shape):
        layer = RandomNoise(0.1)
        assert layer(np.zeros(shape)).shape == shape
        assert layer.compute_output_shape(shape) == shape

    def test_unknown_batch_and_length(self):
        model = keras.Sequential([keras.Input((None, 4)), RandomNoise(0.1)])
        assert model.predict(np.zeros((3, 7, 4)), verbose=0).shape == (3, 7, 4)

    @pytest.mark.parametrize("stddev", [-0.1, float("nan"), "much"])
    def test_rejects_deviation(self, stddev):
        with pytest.raises(ValueError, match="`RandomNoise` expects `stddev`"):
            RandomNoise(stddev)

    def test_rejects_generator(self):
        with pytest.raises(ValueError, match="`RandomNoise` expects `generator`"):
            RandomNoise(0.1, generator="dice")
