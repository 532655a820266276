import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.layers import BitDepthReduction

CONTRACT = [{"bits": 3}]


class TestBitDepthReduction:
    @pytest.mark.parametrize("bits", [1, 4, 8])
    def test_matches_numpy(self, bits, images):
        steps = 2**bits - 1
        expected = np.rint(images * steps) / steps
        np.testing.assert_allclose(BitDepthReduction(bits)(images), expected, atol=1e-7)

    def test_one_bit_is_a_threshold_with_half_rounded_to_even(self):
        pixels = np.array([0.0, 0.49, 0.5, 0.51, 1.0]).reshape(1, 1, 5, 1)
        result = BitDepthReduction(1)(pixels).numpy().ravel()
        np.testing.assert_array_equal(result, [0, 0, 0, 1, 1])

    def test_three_bits_are_not_the_shifted_or_ninth_level_formulas(self):
        # Xu: rint(.3 * 7) / 7 = 2/7; Guo's code: rint(.3 * 8) / 8 = .25;
        # Athalye's code: floor(.3 * 256 / 32) * 32 / 255 = .251.
        result = BitDepthReduction(3)(np.full((1, 1, 1, 1), 0.3)).numpy().item()
        assert result == pytest.approx(2 / 7)

    @given(bits=st.integers(1, 8), seed=st.integers(0, 100))
    @settings(max_examples=20, deadline=None)
    def test_is_idempotent_with_few_levels(self, bits, seed):
        pixels = np.random.default_rng(seed).uniform(0, 1, (1, 9, 9, 1))
        layer = BitDepthReduction(bits)
        once = layer(pixels.astype("float32"))
        np.testing.assert_array_equal(layer(once), once)
        assert len(np.unique(once)) <= 2**bits

    def test_value_range(self, images):
        wide = BitDepthReduction(3, value_range=(-1, 1))(2 * images - 1)
        expected = 2 * BitDepthReduction(3)(images) - 1
        np.testing.assert_allclose(wide, expected, atol=1e-6)

    def test_carries_no_state(self):
        layer = BitDepthReduction(3)
        layer.build((None, 8, 8, 1))
        assert layer.count_params() == 0

    def test_sees_exact_pixels_under_mixed_precision(self):
        # 0.49999 is 0.5 in float16, which rounds to the even level 0; 0.50001 is 1.
        model = keras.Sequential(
            [keras.Input((1, 1, 1)), BitDepthReduction(1, dtype="mixed_float16")]
        )
        assert model(np.full((1, 1, 1, 1), 0.50001, "float32")).numpy().item() == 1.0

    @pytest.mark.parametrize("bits", [0, 9, 2.5, True])
    def test_rejects_bits(self, bits):
        with pytest.raises(
            ValueError, match=r"`BitDepthReduction` expects `bits` .*Received: bits="
        ):
            BitDepthReduction(bits=bits)
