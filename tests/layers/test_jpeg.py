import io

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._jpeg import EXACT, SOFT, compress, quantization_tables
from tests.support.photographs import by_libjpeg, noise, photographs

SUBSAMPLINGS = ("4:4:4", "4:2:0")


def ours(images, quality, subsampling, rounding=EXACT):
    tables = tf.constant(quantization_tables(quality)[None], tf.float32)
    unit = tf.constant(images / np.float32(255))
    result = compress(unit, tables, subsampling=subsampling, rounding=rounding)
    return 255 * result.numpy()


class TestQuantizationTables:
    def test_equal_to_pillow_for_every_quality(self):
        image = pytest.importorskip("PIL.Image", reason="needs the extra `all`")
        colour = image.fromarray(np.zeros((8, 8, 3), "uint8"))
        for quality in range(1, 101):
            file = io.BytesIO()
            colour.save(file, "JPEG", quality=quality)
            tables = image.open(file).quantization
            for index, table in enumerate(quantization_tables(quality)):
                assert table.ravel().tolist() == list(tables[index])

    def test_quality_50_is_the_standard_and_100_all_ones(self):
        assert quantization_tables(50)[0, 0, :3].tolist() == [16, 11, 10]
        # Rows are vertical frequencies; the luminance table is not symmetric.
        assert quantization_tables(50)[0, 1, 0] == 12
        assert (quantization_tables(100) == 1).all()

    def test_lie_in_one_byte(self):
        assert quantization_tables(1).max() == 255


class TestCompress:
    @pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
    @pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
    @pytest.mark.parametrize("make", [photographs, noise])
    def test_equal_to_libjpeg_but_for_ties(self, make, quality, subsampling):
        images = make((4, 40, 56, 3))
        expected = by_libjpeg(images, quality, subsampling)
        apart = np.abs(ours(images, quality, subsampling) - expected)
        assert apart.mean() < 0.01
        assert (apart <= 1.001).mean() > 0.999

    @pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
    @pytest.mark.parametrize(
        "size", [(1, 1), (5, 4), (7, 5), (8, 8), (17, 17), (28, 28), (33, 17)]
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_any_size(self, size, channels, subsampling):
        images = photographs((3, *size, channels))
        expected = by_libjpeg(images, 85, subsampling)
        apart = np.abs(ours(images, 85, subsampling) - expected)
        assert apart.max() <= 1.001
        assert apart.mean() < 0.01

    def test_halves_are_rounded_away_from_zero(self):
        # Only the mean's coefficient is not zero: eight times its distance from 128,
        # over a step of 16, which is a half for every odd level.
        for level in range(100, 156):
            flat = np.full((1, 8, 8, 1), level, "uint8")
            steps = 8 * (level - 128) / 16
            rounded = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
            assert ours(flat, 50, "4:4:4")[0, 0, 0, 0] == 128 + 2 * rounded

    def test_halves_survive_a_division_by_way_of_reciprocals(self):
        # As an optimized graph computes it. 1/2040 is the smallest step between
        # quotients; 24 is the divisor with the largest inexact quotients.
        for divisor in (24.0, 56.0, 2040.0):
            whole = np.arange(-8192, 8193)
            wanted = np.sign(whole) * np.floor((abs(whole) + divisor / 2) / divisor)
            made = whole.astype("float32") * np.float32(1.0 / divisor)
            np.testing.assert_array_equal(EXACT.nearest(made), wanted)

    def test_quality_orders_the_errors_and_a_second_time_costs_less(self):
        images = photographs((4, 48, 48, 3))
        errors = [
            ((ours(images, quality, "4:2:0") - images) ** 2).mean()
            for quality in (10, 25, 50, 75, 90, 95, 100)
        ]
        assert errors == sorted(errors, reverse=True)
        once = ours(images, 75, "4:2:0")
        twice = ours(once.astype("uint8"), 75, "4:2:0")
        assert np.abs(twice - once).mean() < 0.5 * np.abs(once - images).mean()

    def test_soft_rounding_has_the_same_values(self):
        images = photographs((2, 17, 24, 3))
        exact, soft = (ours(images, 60, "4:2:0", each) for each in (EXACT, SOFT))
        np.testing.assert_allclose(soft, exact, atol=1e-3)

    def test_gradient_of_soft_rounding_is_that_of_the_cubic(self):
        # A flat block has the mean as its only coefficient: 8 (x - 128) / T steps.
        # In the backward pass, rounding has the slope 3 d**2 for a distance d to the
        # step, and everything else the slope 1, so this is the slope of the levels.
        level = tf.constant(150.0 / 255)
        table = tf.constant(quantization_tables(50)[None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(level)
            flat = level * tf.ones((1, 8, 8, 1))
            coded = compress(flat, table, subsampling="4:4:4", rounding=SOFT)
            mean = tf.reduce_mean(coded)
        distance = 8 * (150 - 128) / 16 - 11
        assert distance == 0
        np.testing.assert_allclose(tape.gradient(mean, level), 0.0, atol=1e-6)
        level = tf.constant(151.0 / 255)
        with tf.GradientTape() as tape:
            tape.watch(level)
            flat = level * tf.ones((1, 8, 8, 1))
            coded = compress(flat, table, subsampling="4:4:4", rounding=SOFT)
            mean = tf.reduce_mean(coded)
        distance = 8 * (151 - 128) / 16 - 12
        np.testing.assert_allclose(
            tape.gradient(mean, level), 3 * distance**2, rtol=1e-4
        )
