import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers import InputTransform


class Inverted(InputTransform):
    """A simple transform that shows when it is active and what it received."""

    draws = False

    def transform(self, images):
        return 1.0 - images


class TestInputTransform:
    @pytest.mark.parametrize(
        ("active", "training", "works"),
        [
            ("always", True, True),
            ("always", False, True),
            ("training", True, True),
            ("training", False, False),
            ("inference", True, False),
            ("inference", False, True),
            ("inference", None, True),
        ],
    )
    def test_active(self, active, training, works, images):
        result = Inverted(active=active)(images, training=training)
        expected = 1.0 - images if works else images
        np.testing.assert_array_equal(result, expected)

    def test_maps_the_range_in_and_out(self, images):
        layer = Inverted(value_range=(-2.0, 6.0))
        np.testing.assert_allclose(layer(8 * images - 2), 6 - 8 * images, atol=1e-5)

    def test_whole_numbers_become_floats(self):
        layer = Inverted(value_range=(0, 255))
        pixels = np.full((1, 2, 2, 1), 200, "uint8")
        assert layer(tf.constant(pixels)).dtype == "float32"
        symbolic = layer(keras.Input((2, 2, 1), dtype="uint8"))
        assert symbolic.dtype == "float32"

    def test_symbolic_output_has_the_dtype_of_the_input(self):
        layer = Inverted(dtype="mixed_float16")
        assert layer(keras.Input((2, 2, 1), dtype="float16")).dtype == "float16"
        assert layer(keras.Input((2, 2, 1), dtype="float32")).dtype == "float32"

    def test_rejects_range_and_activity(self):
        with pytest.raises(ValueError, match=r"`Inverted` expects `value_range`"):
            Inverted(value_range=(1.0, 0.0))
        with pytest.raises(ValueError, match=r"`active` to be one of 'always'"):
            Inverted(active="sometimes")

    def test_rejects_a_batch_without_channels(self):
        with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
            Inverted()(np.zeros((2, 8, 8)))

    def test_base_transforms_nothing(self, images):
        with pytest.raises(NotImplementedError, match="must write `transform`"):
            InputTransform()(images)
