import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.eight_bit import (
    OnEightBit,
    is_eight_bit,
    to_eight_bit,
)

RANGES = [ValueRange(0, 1), ValueRange(-1, 1), ValueRange(0, 255)]


def of_levels(levels, pixels):
    return (pixels.low + levels * pixels.span / 255).astype("float32")


@pytest.mark.parametrize("pixels", RANGES, ids=str)
class TestRanges:
    def test_is_eight_bit(self, pixels):
        images = of_levels(np.arange(256.0), pixels)
        assert is_eight_bit(images, pixels)
        images[7] += 0.1 * pixels.span / 255
        assert not is_eight_bit(images, pixels)

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_stays_in_the_ball(self, norm, pixels):
        rng = np.random.default_rng(0)
        level = pixels.span / 255
        levels = rng.integers(0, 256, (5, 4, 3, 2))
        steps = rng.uniform(-9.7, 9.7, levels.shape)
        steps = np.clip(levels + steps, 0, 255) - levels
        flat = np.abs(steps.reshape(5, -1))
        size = {"linf": flat.max(1), "l2": (flat**2).sum(1) ** 0.5, "l1": flat.sum(1)}
        # No attacked image is further away than this.
        epsilon = size[norm].max() * level
        clean, attacked = (of_levels(each, pixels) for each in (levels, levels + steps))
        found = to_eight_bit(attacked, clean, epsilon=epsilon, norm=norm, pixels=pixels)
        assert is_eight_bit(found, pixels)
        moved = (found - clean).astype("float64").reshape(5, -1)
        order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
        assert (np.linalg.norm(moved, order, axis=1) <= epsilon * (1 + 1e-4)).all()
        assert np.abs(found - attacked).max() < 1.01 * level

    def test_whole_levels_stay(self, pixels):
        clean = of_levels(np.full((1, 1, 2, 1), 100.0), pixels)
        attacked = of_levels(np.array([92.0, 108.0]).reshape(clean.shape), pixels)
        epsilon = 8 * pixels.span / 255
        found = to_eight_bit(
            attacked, clean, epsilon=epsilon, norm="linf", pixels=pixels
        )
        np.testing.assert_allclose(found, attacked, atol=1e-5 * pixels.span)

    def test_model_sees_8_bit_images_and_passes_gradients(self, pixels):
        model = OnEightBit(lambda images: 3.0 * images[:, 0, 0], pixels)
        images = tf.constant(of_levels(np.array([[[[3.4, 200.6]]]]), pixels))
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = model.logits(images)
        expected = 3.0 * of_levels(np.array([[3.0, 201.0]]), pixels)
        np.testing.assert_allclose(logits, expected, rtol=1e-5)
        assert tape.gradient(logits, images).numpy().ravel().tolist() == [3.0, 3.0]
